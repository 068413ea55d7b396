package main

import (
	"time"

	"github.com/spf13/cobra"
)

// newRunCommand returns the verb that a machine's service manager runs.
func newRunCommand(p *program) *cobra.Command {
	s := defaults()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The controller of this machine",
		Long: `Watches Marathon, keeps this machine's HAProxy in step, and counts every request out of HAProxy's access log.

It starts an HAProxy of its own (--haproxy supervise) or drives one that systemd started (--haproxy attach). An outage of Marathon
changes nothing about the routes, across a restart too: the last good state is kept in --state-dir.`,
		Example: `  signalbox run --marathon http://10.0.0.1:8080,http://10.0.0.2:8080
  SIGNALBOX_MARATHON=http://10.0.0.1:8080 SIGNALBOX_HTTP_BIND=:8000 signalbox run`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.validate(); err != nil {
				return &exitError{code: exitUsage, err: err, try: "signalbox config"}
			}
			j, err := newJournal(p.stderr, s.LogLevel, s.LogFormat)
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			c, err := newController(&s, j, lifetime{grace: 10 * time.Second})
			if err != nil {
				return err
			}
			j.WithField("version", version()).Info("signalbox starts")
			if path := c.admin.TokenMade(); path != "" {
				j.Infof("made a token for the admin listener in %s", path)
			}
			err = c.run(cmd.Context())
			j.Info("signalbox ends")
			return err
		},
	}
	addSettings(cmd.Flags(), &s)
	return cmd
}
