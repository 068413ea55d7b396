package main

import (
	"strings"
	"testing"
)

func TestFold(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		if got := fold(line, 40); got != want {
			t.Errorf("fold(%q):\n%s\nwant\n%s", line, got, want)
		}
	}
	f("", "")
	f("as wide as the terminal, to the very end", "as wide as the terminal, to the very end")
	f("as wide as the terminal, and a bit to it", "as wide as the terminal, and a bit to it")
	f("no column, and wider than the terminal is", "no column, and wider than the terminal\n    is")
	f("  error    SB102 /hello signalbox.hots: is unknown; did you mean signalbox.host?",
		"  error    SB102 /hello signalbox.hots:\n           is unknown; did you mean\n           signalbox.host?")
	f("a.local  /  /hosts  0  0/2  -  -  down: its health check fails",
		"a.local  /  /hosts  0  0/2  -  -  down:\n                    its health check\n                    fails")
	f("  task  127.0.0.2:31473  up  shop.instance-29366e66-1b93",
		"  task  127.0.0.2:31473  up\n        shop.instance-29366e66-1b93")
	f("HOST  \x1b[31mSTATE is painted and not counted\x1b[0m", "HOST  \x1b[31mSTATE is painted and not counted\x1b[0m")
	f(strings.Repeat("x", 50), strings.Repeat("x", 50))
	f("  admin  "+strings.Repeat("x", 50)+" too", "  admin  "+strings.Repeat("x", 50)+"\n      too")
}

// However it is written, a terminal gets whole lines.
func TestFoldedTerminal(t *testing.T) {
	const text = "no column, and wider than the terminal is\nshort\n\nwithout an end"
	want := "no column, and wider than the terminal\n    is\nshort\n\nwithout an end"
	for size := 1; size <= len(text); size++ {
		var to strings.Builder
		f := &folded{to: &to, width: 40}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if written, err := f.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		if err := f.flush(); err != nil || to.String() != want {
			t.Fatalf("%d at a time: %q, %v", size, to.String(), err)
		}
	}
}
