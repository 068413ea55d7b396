package metrics

import (
	"os"
	"strings"
	"testing"
)

// The formats can stand between either kind of quotes of HAProxy's configuration; the variables are those that they read, and
// the configuration of these tests sets them as Variables says.
func TestFormats(t *testing.T) {
	for _, format := range []string{LogFormat, LogFormatTCP} {
		if strings.ContainsAny(format, "\"'\\$#\n") {
			t.Errorf("a byte in %q means something in a configuration", format)
		}
	}
	cfg, err := os.ReadFile("testdata/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	read := LogFormat + LogFormatTCP
	for _, v := range Variables() {
		if !strings.Contains(read, "var("+v.Name+")") && !strings.Contains(read, "sub("+v.Name+")") {
			t.Errorf("no format reads %s", v.Name)
		}
		if want := v.On + " set-var(" + v.Name + ") " + v.Expr; !strings.Contains(string(cfg), want) {
			t.Errorf("the tests' configuration has no rule %q", want)
		}
		read = strings.ReplaceAll(read, "("+v.Name+")", "()")
		read += "var(txn.service)" // set in two rule sets
	}
	if i := strings.Index(strings.ReplaceAll(read, "var(txn.service)", ""), "(txn."); i >= 0 {
		t.Errorf("a format reads a variable that Variables does not name: %s", read[i:])
	}
}
