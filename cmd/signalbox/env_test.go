package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

func TestEditDistance(t *testing.T) {
	f := func(want int, a, b string) {
		t.Helper()
		if got := editDistance(a, b); got != want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
	f(0, "", "")
	f(3, "", "abc")
	f(1, "abc", "abd")
	f(1, "abc", "ac")
	f(2, "hots", "host")
	f(3, "kitten", "sitting")
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("ab_")), 0, 8, -1)
		a, b, c := word.Draw(rt, "a"), word.Draw(rt, "b"), word.Draw(rt, "c")
		if editDistance(a, b) != editDistance(b, a) || (editDistance(a, b) == 0) != (a == b) || editDistance(a, c) > editDistance(a, b)+editDistance(b, c) {
			rt.Errorf("no distance: %q %q %q", a, b, c)
		}
	})
}

func TestStrays(t *testing.T) {
	p := &program{verbs: allVerbs()}
	env := readEnvironment([]string{
		"SIGNALBOX_MARATHON=http://m1:8080", "SIGNALBOX_MARATHONS=x", "SIGNALBOX_HAPROXY_DOR=x", "SIGNALBOX_SOMETHING_ELSE_ALTOGETHER=x",
		"SIGNALBOX_EMPTY=", "PATH=/bin", "SIGNALBOX_HELP=1", "SIGNALBOX=x",
	})
	strays, err := env.check(p.command())
	if err != nil {
		t.Fatal(err)
	}
	want := []stray{
		{"SIGNALBOX_HAPROXY_DOR", "SIGNALBOX_HAPROXY_DIR"},
		{"SIGNALBOX_HELP", ""},
		{"SIGNALBOX_MARATHONS", "SIGNALBOX_MARATHON"},
		{"SIGNALBOX_SOMETHING_ELSE_ALTOGETHER", ""},
	}
	if diff := cmp.Diff(want, strays); diff != "" {
		t.Errorf("strays (-want +got):\n%s", diff)
	}
}

func TestSecretsInVariablesAreRefused(t *testing.T) {
	for _, name := range []string{"SIGNALBOX_MARATHON_PASSWORD", "SIGNALBOX_MARATHON_TOKEN", "SIGNALBOX_ADMIN_TOKEN"} {
		_, err := readEnvironment([]string{name + "=hunter2"}).check((&program{verbs: allVerbs()}).command())
		if err == nil || !strings.Contains(err.Error(), name+"_FILE") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every flag of every verb has a variable of its own, and no flag takes a secret.
func TestEveryFlagHasAVariable(t *testing.T) {
	root := (&program{verbs: allVerbs()}).command()
	walk(root, func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if unbound(f.Name) {
				return
			}
			if strings.Trim(f.Name, "abcdefghijklmnopqrstuvwxyz-") != "" {
				t.Errorf("%s --%s: its variable is no name that a shell takes", c.Name(), f.Name)
			}
			if (strings.Contains(f.Name, "password") || strings.Contains(f.Name, "token")) && !strings.HasSuffix(f.Name, "-file") {
				t.Errorf("%s --%s takes a secret that is not in a file", c.Name(), f.Name)
			}
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", c.Name(), f.Name)
			}
		})
	})
}

// Flag over variable over default, for each kind of value.
func TestPrecedence(t *testing.T) {
	for _, row := range settingTable {
		base := defaults()
		s := defaults()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		addSettings(fs, &s)
		other := map[string]string{
			"list": "x,y", "text": "x", "int": "7", "duration": "3s", "share": "0.7", "bool": "true",
		}[row.value(&base).Type()]
		switch row.name { // choices
		case "health":
			other = "any"
		case "marathon-scheme":
			other = "https"
		case "service-ports":
			other = "all"
		case "prefer":
			other = "local"
		case "haproxy":
			other = "attach"
		case "log-level":
			other = "debug"
		case "log-format":
			other = "json"
		}
		def := row.value(&base).String()
		if other == def {
			t.Fatalf("--%s: the test's value is the default", row.name)
		}
		check := func(origin origin, want string, env environment, args ...string) {
			t.Helper()
			s = defaults()
			fs = pflag.NewFlagSet("test", pflag.ContinueOnError)
			addSettings(fs, &s)
			if err := fs.Parse(args); err != nil {
				t.Fatal(err)
			}
			origins, err := env.apply(fs)
			if err != nil {
				t.Fatal(err)
			}
			if got := row.value(&s).String(); got != want || origins[row.name] != origin {
				t.Errorf("--%s with %q and %v: %q from %s, want %q from %s", row.name, args, env, got, origins[row.name], want, origin)
			}
		}
		set := environment{variable(row.name): other}
		check(fromDefault, def, nil)
		check(fromEnvironment, other, set)
		check(fromFlag, other, nil, "--"+row.name+"="+other)
		if def != "" {
			check(fromFlag, def, set, "--"+row.name+"="+def)
		}
	}
}

func TestListsAddUp(t *testing.T) {
	s := defaults()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addSettings(fs, &s)
	if err := fs.Parse([]string{"--marathon", "http://a:1, http://b:2", "--marathon=http://c:3"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"http://a:1", "http://b:2", "http://c:3"}, s.Marathon); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
