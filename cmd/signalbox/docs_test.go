package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run ^(TestConfigurationIsDocumented|TestLabelsAreDocumented|TestMetricsAreDocumented|TestProblemsAreDocumented)$ . -update

// compareDocs holds a generated file of docs/ against what it should be; with -update it writes it.
func compareDocs(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run 'make generate'", err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/%s is not what the program says: run 'make generate' (-want +got):\n%s", name, diff)
	}
}

// cell returns text as it stands in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// docs/configuration.md is written from the table that the flags come from.
func TestConfigurationIsDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Settings

Every flag of ` + "`signalbox run`" + ` has a variable. A flag goes before a variable, a variable before the default; an empty variable
counts as unset. There is no configuration file. ` + "`signalbox config`" + ` prints each value and where it comes from.

Secrets are read from files only: a variable such as ` + "`SIGNALBOX_MARATHON_PASSWORD`" + ` is refused. Lists are separated by commas;
times are written as in ` + "`500ms`, `15s`, `2m`, `1h`" + `; shares as ` + "`0.2` or `20%`" + `.
`)
	s := defaults()
	section := ""
	for _, row := range settingTable {
		if row.section != section {
			section = row.section
			fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | what it says |\n| --- | --- | --- | --- |\n", section)
		}
		def := row.value(&s).String()
		if def != "" {
			def = "`" + def + "`"
		}
		help := cell(plainHelp(row.help))
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", row.name, variable(row.name), def, help)
	}
	compareDocs(t, "configuration.md", b.String())
}
