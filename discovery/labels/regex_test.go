package labels

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRegularExpressions(t *testing.T) {
	for _, f := range []struct{ expr, host, path, flaw string }{
		{expr: `api[0-9]+\.local`, host: `api[0-9]+\.local`, path: `api[0-9]+\.local`},
		{expr: `^/V[12]/.*$`, host: `/v[12]/.*`, path: `/V[12]/.*`},
		{expr: `/price\$`, host: `/price\$`, path: `/price\$`},
		{expr: `/a\\$`, host: `/a\\`, path: `/a\\`},
		{expr: `\D\W\d`, host: `\D\W\d`, path: `\D\W\d`},
		{expr: `(Shop|Cart){2,3}`, flaw: "has alternatives"},
		{expr: ``, flaw: "1 to 200 bytes"},
		{expr: `^$`, flaw: "1 to 200 bytes"},
		{expr: strings.Repeat("a", 201), flaw: "1 to 200 bytes"},
		{expr: `(a+)+`, flaw: "has alternatives or repetitions"},
		{expr: `(a|a)*`, flaw: "has alternatives or repetitions"},
		{expr: `a*?`, flaw: "greedy"},
		{expr: `(?i)a`, flaw: "a group has another beginning"},
		{expr: `\pL`, flaw: `\p is not understood`},
		{expr: `a\`, flaw: "trailing backslash"},
		{expr: `(a`, flaw: "missing closing )"},
		{expr: "ä", flaw: "printable ASCII"},
		{expr: "a\nb", flaw: "printable ASCII"},
	} {
		path, bad := parsePathRegex(f.expr)
		host, alike := parseHostRegex(f.expr, &Options{})
		if (bad == nil) != (f.flaw == "") || (alike == nil) != (f.flaw == "") {
			t.Errorf("%q: flaws %+v and %+v", f.expr, bad, alike)
			continue
		}
		if bad != nil {
			if bad.code != "SB120" || !strings.Contains(bad.text, f.flaw) || !strings.Contains(alike.text, f.flaw) {
				t.Errorf("%q: flaws %+v and %+v, want %q", f.expr, bad, alike, f.flaw)
			}
			continue
		}
		if path != f.path || host != "~"+f.host {
			t.Errorf("%q is read as %q and %q, want %q and %q", f.expr, path, host, f.path, f.host)
		}
	}
	// A range can be one in capitals only.
	if _, bad := parseHostRegex(`[A-z]`, &Options{}); bad != nil {
		t.Errorf("flaw %+v", bad)
	}
	if _, bad := parseHostRegex(`[Z-a]`, &Options{}); bad == nil {
		t.Error("a range of nothing is read")
	}
}

// A host that is reserved cannot be had by an expression either.
func TestExpressionsDoNotMatchReservedHosts(t *testing.T) {
	o := &Options{Reserved: []string{"signalbox.local"}}
	if _, bad := parseHost(`~.*\.local`, o); bad == nil || bad.code != "SB116" {
		t.Errorf("flaw %+v", bad)
	}
	if host, bad := parseHost(`~shop.*\.local`, o); bad != nil || host != `~shop.*\.local` {
		t.Errorf("%q, flaw %+v", host, bad)
	}
}

// What is let through means the same to Go, which explains, and to PCRE2, which routes. GNU grep is the second judge.
func TestEnginesAgree(t *testing.T) {
	atoms := []string{"a", "b", "/", ".", `\.`, "[a-c]", "[^/]", "[^a]", `\d`, `\w`, `[\d-]`, `[a\]]`, `\{`, "(a|b)", "(?:ab|c)", "(a)", "x|y", "-", "1", `[{}]`, "&", "(|a)"}
	quantifiers := []string{"", "", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "{0,40}"}
	inputs := []string{"", "a", "b", "ab", "abc", "/", "/a", "/a/b", "a.b", "aa", "aaa", "1", "12", "a1", "-", "]", "{}", "x", "y", "ax", "xy", "c", "cc", "&", "/ab/", "a]", "..", "A"}
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		var expr strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "length") {
			expr.WriteString(rapid.SampledFrom(atoms).Draw(t, "atom") + rapid.SampledFrom(quantifiers).Draw(t, "quantifier"))
		}
		e, bad := parsePathRegex(expr.String())
		if bad != nil {
			return
		}
		compared++
		whole := regexp.MustCompile("^(?:" + e + ")$")
		var want []string
		for i, s := range inputs {
			if whole.MatchString(s) {
				want = append(want, fmt.Sprintf("%d:%s", i+1, s))
			}
		}
		grep := exec.Command("grep", "-nP", "^(?:"+e+")$")
		grep.Env = []string{"LC_ALL=C"}
		grep.Stdin = strings.NewReader(strings.Join(inputs, "\n") + "\n")
		out, err := grep.Output()
		if e := (&exec.ExitError{}); err != nil && (!errors.As(err, &e) || e.ExitCode() != 1) {
			t.Fatalf("%s: %v", expr.String(), err)
		}
		if got := strings.Join(want, "\n"); got != strings.TrimSuffix(string(out), "\n") {
			t.Fatalf("%q: Go matches %q, PCRE2 %q", e, got, out)
		}
	})
	if compared == 0 {
		t.Error("no expression was compared")
	}
}
