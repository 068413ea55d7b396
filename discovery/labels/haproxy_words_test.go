package labels

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What HAProxy 2.6 makes of each of these, as it answers with them in a header.
func TestSplitWords(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		got, err := splitWords(text)
		if err != nil {
			t.Fatalf("splitWords(%q): %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("splitWords(%q) (-want +got):\n%s", text, diff)
		}
	}
	f("")
	f(" \t ")
	f("timeout server 5m", "timeout", "server", "5m")
	f("  a\tb  ", "a", "b")
	f(`"a\ b"`, "a b")
	f(`"a\1b"`, `a\1b`)
	f(`a\ b\\c`, `a b\c`)
	f(`'a\ b'`, `a\ b`)
	f(`"q\"q"`, `q"q`)
	f(`a\x41b`, "aAb")
	f(`"a'b"`, "a'b")
	f(`a"b c"d`, "ab cd")
	f(`"\x41\#"`, "A#")
	f(`a\qb`, `a\qb`)
	f(`\'x`, "'x")
	f(`a$HOME`, "a$HOME")
	f(`"\$HOME"`, "$HOME")
	f(`'$HOME'`, "$HOME")
	f(`x#y`, "x")
	f(`x\#y '#' # z`, "x#y", "#")
	f(`a "" b`, "a", "", "b")
	f(`a\`, `a\`)
	f(`GET\ /\ HTTP/1.1\r\nHost:\ www`, "GET / HTTP/1.1\r\nHost: www")
	f(`"^([^ :]*)\ /api/?(.*)" "\1\ /\2"`, `^([^ :]*) /api/?(.*)`, `\1 /\2`)

	fails := func(text string, want error) {
		t.Helper()
		if got, err := splitWords(text); !errors.Is(err, want) {
			t.Errorf("splitWords(%q) = %q, %v; want %v", text, got, err, want)
		}
	}
	fails(`a "b`, errQuote)
	fails(`a 'b`, errQuote)
	fails(`\x4`, errEscape)
	fails(`"$HOME"`, errEnvironment)
	fails(`"a ${X} b"`, errEnvironment)
	fails("a\x00b", errControl)
	fails("a\x7f", errControl)
	fails("a\nb", errControl)
	fails(strings.Repeat("a ", maxWords+1), errWords)
}

func TestFill(t *testing.T) {
	known := []string{"host", "port", "otherOptions"}
	f := func(text, want, trouble string) {
		t.Helper()
		got, bad := fill(text, known)
		if got != want || !strings.Contains(bad, trouble) || trouble == "" && bad != "" {
			t.Errorf("fill(%q) = %q, %q; want %q, %q", text, got, bad, want, trouble)
		}
	}
	f("server {host}:{port}", "server {host}:{port}", "")
	f("a{otherOptions}b", "a {otherOptions} b", "")
	f("{{ ssl_fc }}", "{ ssl_fc }", "")
	f("{nobody}", "", "{nobody}")
	f("{ ssl_fc }", "", "{ ssl_fc }")
	f("a}", "", `"}"`)
	f("a{", "", `"{"`)
	f("{host", "", `"{"`)
}

// Words in single quotes are read as they are, so that what a line says does not depend on how it is written.
func FuzzSplitWords(f *testing.F) {
	for _, seed := range []string{
		"", "a b", `a\ b`, `"a b" 'c d'`, `"$X"`, `\x41`, "a#b", `server {serverName} {host_ipv4}:{port} id {serverId}`, `"^([^ :]*)\ /x/?(.*)"`, "\x00", "é", `"\`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range splitLines(text) {
			if l.err != nil {
				continue
			}
			var quoted []string
			for _, w := range l.words {
				if strings.ContainsAny(w, "'\r\n") || strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					return
				}
				quoted = append(quoted, "'"+w+"'")
			}
			again, err := splitWords(strings.Join(quoted, " "))
			if err != nil || !slices.Equal(again, l.words) {
				t.Errorf("%q is %q, and quoted %q, %v", l.text, l.words, again, err)
			}
		}
		if filled, trouble := fill(text, []string{"host"}); trouble == "" && strings.Count(text, "{{") == 0 && strings.Count(text, "}}") == 0 && filled != text {
			t.Errorf("fill(%q) = %q", text, filled)
		}
	})
}
