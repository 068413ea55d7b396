package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

// configRow is one setting as `signalbox config` prints it. Secrets stand in files, so there is none to hide.
type configRow struct {
	Section  string `json:"section"`
	Flag     string `json:"flag"`
	Variable string `json:"variable"`
	Value    string `json:"value"`
	Origin   origin `json:"origin"`
	Default  string `json:"default"`
	Help     string `json:"help"`
}

func newConfigCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Each setting of run, its value and where it comes from",
		Long: `Prints what "signalbox run" with the same flags, in the same environment, would use. It ends with 1 if a SIGNALBOX_ variable is
none of signalbox's, or if the settings contradict each other.`,
		Example: `  signalbox config
  SIGNALBOX_HTTP_BIND=:8000 signalbox config --prefer local`,
		GroupID: groupCheck,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			strays, err := p.env.check(cmd.Root())
			if err != nil {
				return err
			}
			var rows []configRow
			base := defaults()
			for _, row := range settingTable {
				rows = append(rows, configRow{
					Section: row.section, Flag: "--" + row.name, Variable: variable(row.name), Value: s.effective(row.name, row.value(&s).String()),
					Origin: p.origins[row.name], Default: row.value(&base).String(), Help: plainHelp(row.help),
				})
			}
			for _, name := range slices.Sorted(maps.Keys(p.env)) {
				if short, ok := strings.CutPrefix(name, metricPrefix); ok {
					rows = append(rows, configRow{
						Section: "Metrics", Flag: "metric " + strings.ToLower(short), Variable: name, Value: p.env[name], Origin: fromEnvironment,
						Help: "Requests that meet these conditions are counted under this name.",
					})
				}
			}
			invalid := s.validate()
			if output == "json" {
				err = p.printConfigJSON(rows, strays, invalid)
			} else {
				err = p.printConfig(rows, strays, invalid)
			}
			if err == nil && (len(strays) > 0 || invalid != nil) {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	addSettings(cmd.Flags(), &s)
	return cmd
}

func (p *program) printConfigJSON(rows []configRow, strays []stray, invalid error) error {
	answer := struct {
		APIVersion string      `json:"apiVersion"`
		Settings   []configRow `json:"settings"`
		Unknown    []stray     `json:"unknown"`
		Errors     []string    `json:"errors"`
	}{admin.APIVersion, rows, append([]stray{}, strays...), append([]string{}, lines(invalid)...)}
	return printJSON(p.stdout, answer)
}

func (p *program) printConfig(rows []configRow, strays []stray, invalid error) error {
	t := newTable(p.stdout, "SETTING", "VALUE", "FROM", "VARIABLE")
	for _, row := range rows {
		value := row.Value
		if value == "" {
			value = "-"
		}
		t.row(row.Flag, value, string(row.Origin), row.Variable)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(strays) == 0 && invalid == nil {
		return nil
	}
	fmt.Fprintln(p.stdout)
	for _, s := range strays {
		fmt.Fprintln(p.stdout, "warning: "+clean(s.String()))
	}
	for _, l := range lines(invalid) {
		fmt.Fprintln(p.stdout, "error: "+clean(l))
	}
	return nil
}

// lines returns the errors that errors.Join has joined, one a line.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, lines(e)...)
		}
		return out
	}
	return []string{err.Error()}
}

// plainHelp is a flag's help without the quotes that name its argument.
func plainHelp(s string) string { return strings.ReplaceAll(s, "`", "") }
