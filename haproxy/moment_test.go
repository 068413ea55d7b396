package haproxy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// entriesOf returns n entries with one value.
func entriesOf(n int, value string) []MapEntry {
	out := make([]MapEntry, n)
	for i := range out {
		out[i] = MapEntry{Key: fmt.Sprintf("h%05d.test", i), Value: value}
	}
	return out
}

// A few entries of a map change one by one. Where many do, or where a key is there twice, the whole map changes in one moment.
func TestManyEntriesChangeInOneMoment(t *testing.T) {
	options := &Options{Dir: "/run/signalbox"}
	path := options.MapPath(PathsMap)
	few, many := massChange, massChange+1
	twice := append(entriesOf(2, "a"), entriesOf(9, "a")[2:]...)
	twice[1].Value = "" // as it is read back
	for _, c := range []struct {
		name     string
		from, to []MapEntry
		want     []string // the first words of the commands, each kind once
	}{
		{"few are set", entriesOf(few, "a"), entriesOf(few, "b"), []string{"set map " + path}},
		{"many are set", entriesOf(many, "a"), entriesOf(many, "b"), []string{"prepare map " + path, "add map @VERSION", "commit map @VERSION"}},
		{"few go", entriesOf(few, "a"), nil, []string{"del map " + path}},
		{"many go", entriesOf(many+5, "a"), entriesOf(5, "a"), []string{"prepare map " + path, "add map @VERSION", "commit map @VERSION"}},
		{"one is there twice", twice, entriesOf(9, "a"), []string{"prepare map " + path, "add map @VERSION", "commit map @VERSION"}},
	} {
		plan := Diff(&Config{Options: options, Routes: Routes{Paths: c.from}}, &Config{Options: options, Routes: Routes{Paths: c.to}})
		var kinds []string
		entries := 0
		for _, command := range plan.Commands {
			var a, b, third string
			if _, err := fmt.Sscan(command.Text, &a, &b, &third); err != nil {
				t.Fatalf("%s: %q: %v", c.name, command.Text, err)
			}
			if kind := a + " " + b + " " + third; !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
			if a == "add" {
				entries++
			}
		}
		if d := cmp.Diff(c.want, kinds); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if len(c.want) == 3 && entries != len(c.to) {
			t.Errorf("%s: the new map has %d entries, want %d", c.name, entries, len(c.to))
		}
		if len(plan.Reasons) > 0 {
			t.Errorf("%s: reasons to reload: %v", c.name, plan.Reasons)
		}
	}
}
