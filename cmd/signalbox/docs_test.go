package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run ^TestConfigurationIsDocumented$ . -update

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
		help := strings.ReplaceAll(plainHelp(row.help), "|", `\|`)
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", row.name, variable(row.name), def, help)
	}
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run 'make generate'", err)
	}
	if diff := cmp.Diff(string(got), b.String()); diff != "" {
		t.Errorf("docs/configuration.md is not what the flags say: run 'make generate' (-want +got):\n%s", diff)
	}
}
