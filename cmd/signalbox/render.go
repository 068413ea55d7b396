package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newRenderCommand(p *program) *cobra.Command {
	s := defaults()
	var output, name, app string
	var offline bool
	cmd := &cobra.Command{
		Use:   "render",
		Short: "The HAProxy configuration as it would be written now",
		Long: `Prints the files of the configuration that the running controller wants: haproxy.cfg and the maps. With --offline it asks
Marathon itself, once, with the settings of run, and needs no controller. JSON has the files, and the parts of each app.`,
		Example: `  signalbox render --file haproxy.cfg
  signalbox render --app /shop/cart                              what is written for one app
  signalbox render --offline --marathon http://10.0.0.1:8080     what a controller would write`,
		GroupID: groupCheck,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := p.render(cmd, &s, offline)
			if err != nil {
				return err
			}
			if name != "" {
				return p.printFile(files, name, output)
			}
			if app != "" {
				return p.printApp(files, appOf(app), output)
			}
			if output == "json" {
				return printJSON(p.stdout, rendered{admin.APIVersion, files, filesByApp(files)})
			}
			p.printFiles(files)
			return nil
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(textOf(&name), "file", "only the file with this `name`, without a heading")
	cmd.Flags().Var(textOf(&app), "app", "only what is about this `app`")
	addSwitch(cmd.Flags(), &offline, "offline", "without a controller: ask Marathon itself")
	addSettings(cmd.Flags(), &s)
	return cmd
}

func (p *program) render(cmd *cobra.Command, s *settings, offline bool) ([]admin.File, error) {
	if offline {
		if p.offline == nil {
			return nil, usageError("--offline: this build has no way to ask Marathon itself")
		}
		if err := s.validate(); err != nil {
			return nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
		}
		return p.offline(cmd.Context(), s)
	}
	client, err := p.client(s)
	if err != nil {
		return nil, err
	}
	answer, err := client.Render(cmd.Context())
	return answer.Files, err
}

func (p *program) printFile(files []admin.File, name, output string) error {
	var names []string
	for _, f := range files {
		if f.Name != name {
			names = append(names, f.Name)
			continue
		}
		if output == "json" {
			return printJSON(p.stdout, admin.Render{APIVersion: admin.APIVersion, Files: []admin.File{f}})
		}
		fmt.Fprint(p.stdout, f.Content)
		return nil
	}
	return usageError("--file: there is no %q; there are %s", name, strings.Join(names, ", "))
}

// rendered is what `signalbox render -o json` prints.
type rendered struct {
	APIVersion string       `json:"apiVersion"`
	Files      []admin.File `json:"files,omitempty"`
	Apps       []appFiles   `json:"apps"`
}

// printApp prints what is about one app: its blocks, and the lines of maps that lead to it.
func (p *program) printApp(files []admin.File, app, output string) error {
	for _, a := range filesByApp(files) {
		if a.App != app {
			continue
		}
		if output == "json" {
			return printJSON(p.stdout, rendered{APIVersion: admin.APIVersion, Apps: []appFiles{a}})
		}
		p.printFiles(a.Files)
		return nil
	}
	return &exitError{code: exitFindings, err: fmt.Errorf("nothing in the configuration is about %s", app), try: "signalbox why " + app}
}

func (p *program) printFiles(files []admin.File) {
	for i, f := range files {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		fmt.Fprintf(p.stdout, "# ==> %s <==\n%s", clean(f.Name), withLineEnd(f.Content))
	}
}

func withLineEnd(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}
