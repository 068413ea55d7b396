package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"signalbox/devcluster"
)

// newClusterCommand returns the verb that runs the dev cluster's Marathon alone.
func newClusterCommand(p *program) *cobra.Command {
	cfg := devcluster.Config{Listen: "127.0.0.1:8080", Emulate: "1.11", TaskKilling: true}
	var tasks, tokenFile, passwordFile, agentTokenFile, agentCAFile string
	cmd := &cobra.Command{
		Use:   "devcluster",
		Short: "A Marathon-compatible API whose tasks are local processes",
		Long: `Runs the Marathon of signalbox dev alone: for tests, demonstrations, and machines where no Mesos can be had. Whoever reaches it
runs commands as its user, so it binds to loopback only, unless --token-file names a token to ask for.

It prints the API's URL and runs until Ctrl-C, which ends every task.

Faults on demand: POST {"kind": "status", "status": 503, "duration": "10s"} to /devcluster/faults, with one of the kinds status,
empty, half, no-apps, slow, drop, silence, abdicate, failover, unreachable; GET lists those that hold, DELETE ends them.`,
		Example: `  signalbox devcluster --agents 127.0.0.2,127.0.0.3    two slaves
  signalbox devcluster --tasks virtual                 thousands of tasks, without a process for each
  signalbox devcluster --emulate 1.4 --listen 127.0.0.1:0
  signalbox devcluster --remote-agents http://10.0.0.11:5051,http://10.0.0.12:5051 --agent-token-file token --persist --dir /var/lib/marathon`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Token, err = readSecret(tokenFile); err == nil {
				cfg.Password, err = readSecret(passwordFile)
			}
			if err == nil {
				cfg.AgentToken, err = readSecret(agentTokenFile)
			}
			if err == nil {
				cfg.AgentTLS, err = trusting(agentCAFile)
			}
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			log := logrus.New()
			log.SetOutput(p.stderr)
			cfg.Log = log
			cfg.Virtual = tasks == "virtual"
			s, err := devcluster.Start(cmd.Context(), cfg)
			if err != nil {
				return &exitError{code: exitUsage, err: fmt.Errorf("starting the dev cluster: %w", err)}
			}
			fmt.Fprintln(p.stdout, s.URL())
			<-cmd.Context().Done()
			return s.Close()
		},
	}
	f := cmd.Flags()
	f.Var(textOf(&cfg.Listen), "listen", "`address` of the API")
	f.Var(oneOf(&cfg.Emulate, "1.4", "1.11"), "emulate", "Marathon's `version`")
	f.Var(listOf(&cfg.Agents), "agents", "`addresses` of the simulated slaves, of 127.0.0.0/8 (default 127.0.0.1)")
	f.Var(textOf(&cfg.Dir), "dir", "`directory` of sandboxes and state; empty: a temporary one")
	addSwitch(f, &cfg.Persist, "persist", "keep apps across restarts, in --dir")
	tasks = "processes"
	f.Var(oneOf(&tasks, "processes", "virtual"), "tasks", "`kind` of tasks: processes, or virtual, which one server answers for")
	f.Var(textOf(&tokenFile), "token-file", "`file` with a token that every request must bear")
	f.Var(textOf(&cfg.Username), "username", "`user` of basic authentication")
	f.Var(textOf(&passwordFile), "password-file", "`file` with the password of basic authentication")
	f.Var(listOf(&cfg.RemoteAgents), "remote-agents", "`URLs` of agents on other machines, http://host:5051 or https://host:5051, in place of --agents")
	f.Var(textOf(&agentTokenFile), "agent-token-file", "`file` with the token that these ask for")
	f.Var(textOf(&agentCAFile), "agent-ca-file", "PEM `file` of the authorities that sign their certificates, instead of the system's")
	cmd.AddCommand(newMachineCommand(p))
	return cmd
}

// trusting returns what trusts the authorities in a file only; nil for none: the system's.
func trusting(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("reading the authorities: %s holds no certificate", file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// newMachineCommand returns the verb that runs tasks for a dev cluster's Marathon on another machine.
func newMachineCommand(p *program) *cobra.Command {
	cfg := devcluster.MachineConfig{Listen: "127.0.0.1:5051"}
	var tokenFile, cert, key string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "An agent of its own, for a dev cluster's Marathon on another machine",
		Long: `Runs tasks as processes of this machine, for the "signalbox devcluster" that names it among its --remote-agents. Who shows the
token runs commands as its user; an address that is not loopback needs one, and a network that others listen to needs --cert too.

Tasks run on without a Marathon. One that comes back with its kept state takes them over, any other ends them. They end with the agent.`,
		Example: `  signalbox devcluster agent --listen 10.0.0.11:5051 --token-file token
  signalbox devcluster agent --listen 10.0.0.11:5051 --token-file token --cert agent.pem --key agent.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			cfg.Token, err = readSecret(tokenFile)
			if err == nil && (cert != "" || key != "") {
				var c tls.Certificate
				c, err = tls.LoadX509KeyPair(cert, key)
				cfg.Certificate = &c
			}
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			log := logrus.New()
			log.SetOutput(p.stderr)
			cfg.Log = log
			m, err := devcluster.StartMachine(cmd.Context(), cfg)
			if err != nil {
				return &exitError{code: exitUsage, err: fmt.Errorf("starting the agent: %w", err)}
			}
			fmt.Fprintln(p.stdout, m.URL())
			<-cmd.Context().Done()
			return m.Close()
		},
	}
	f := cmd.Flags()
	f.Var(textOf(&cfg.Listen), "listen", "`address` for masters")
	f.Var(textOf(&cfg.Dir), "dir", "`directory` of the sandboxes; empty: that of temporary files")
	f.Var(textOf(&tokenFile), "token-file", "`file` with the token that masters must show")
	f.Var(textOf(&cert), "cert", "PEM `file` with the certificate chain, which makes it https")
	f.Var(textOf(&key), "key", "PEM `file` with its key")
	return cmd
}
