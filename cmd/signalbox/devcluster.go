package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"signalbox/devcluster"
)

// newClusterCommand returns the verb that runs the dev cluster's Marathon alone.
func newClusterCommand(p *program) *cobra.Command {
	cfg := devcluster.Config{Listen: "127.0.0.1:8080", Emulate: "1.11", TaskKilling: true}
	var tasks, tokenFile, passwordFile string
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
  signalbox devcluster --emulate 1.4 --listen 127.0.0.1:0`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Token, err = readSecret(tokenFile); err == nil {
				cfg.Password, err = readSecret(passwordFile)
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
	return cmd
}
