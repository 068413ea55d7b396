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
	for _, f := range []struct{ expr, want, flaw string }{
		{expr: `api[0-9]+\.local`, want: `api[0-9]+\.local`},
		{expr: `^/v[12]/.*$`, want: `/v[12]/.*`},
		{expr: `/price\$`, want: `/price\$`},
		{expr: `/a\\$`, want: `/a\\`},
		{expr: `(?:a|b)c{2,3}`, want: `(?:a|b)c{2,3}`},
		{expr: `/[^/]+/\d+/\w*`, want: `/[^/]+/\d+/\w*`},
		{expr: `(ab)*`, want: `(ab)*`},
		{expr: `[a-z{}()*+?|.]x`, want: `[a-z{}()*+?|.]x`},
		{expr: `[a-z]{1,63}`, want: `[a-z]{1,63}`},
		{expr: `.*a[a-z]*-.*b`, want: `.*a[a-z]*-.*b`},
		{expr: `/a/.*/b/.*/c/.*`, want: `/a/.*/b/.*/c/.*`},
		{expr: `/[^/]+/[^/]+/[^/]+/[0-9]+/.*`, want: `/[^/]+/[^/]+/[^/]+/[0-9]+/.*`},
		{expr: `[a-z]+\.[a-z]+\.[a-z]+\.local`, want: `[a-z]+\.[a-z]+\.[a-z]+\.local`},
		{expr: `/v[0-9]{1,3}(\.[0-9]{1,3})?(/.*)?`, want: `/v[0-9]{1,3}(\.[0-9]{1,3})?(/.*)?`},

		{expr: ``, flaw: "is empty"},
		{expr: `^$`, flaw: "is empty"},
		{expr: strings.Repeat("a", 201), flaw: "is longer than 200 bytes"},
		{expr: `(a+)+`, flaw: "repeats something that is itself repeated or a choice"},
		{expr: `(a|ab)*`, flaw: "repeats something that is itself repeated or a choice"},
		{expr: `(a?b)*`, flaw: "repeats something that is itself repeated or a choice"},
		{expr: `(a*){2}`, flaw: "repeats something that is itself repeated without end"},
		{expr: `((a{2}){3})*`, flaw: "repeats something that is itself repeated or a choice"},
		{expr: `.*a.*b.*c`, flaw: "has too many long repetitions"},
		{expr: `[^/]*[^/]*[^/]*x`, flaw: "has too many long repetitions"},
		{expr: `a{0,100}a{0,100}a{0,100}a{0,100}x`, flaw: "has too many long repetitions"},
		{expr: `(.*a|b).*b.*c`, flaw: "has too many long repetitions"},
		{expr: `(ab)*(ab)*(ab)*(ab)*c`, flaw: "has too many long repetitions"},
		{expr: `(a*a*a*a*)?x`, flaw: "has too many long repetitions"},
		{expr: `.*a.*a[a-z]*-`, flaw: "has too many long repetitions"},
		{expr: `.*a.*a[^/]*`, flaw: "has too many long repetitions"},
		{expr: `a{0,16}a{0,16}a{0,16}a{0,16}x`, flaw: "can match in too many ways"},
		{expr: `((a|b){4}){4}x(a?){16}`, flaw: "can match in too many ways"},
		{expr: `.*a.*b(c?){3}`, flaw: "can match in too many ways"},
		{expr: `a*?`, flaw: "has two quantifiers in a row"},
		{expr: `a++`, flaw: "has two quantifiers in a row"},
		{expr: `a{2}?`, flaw: "has two quantifiers in a row"},
		{expr: `a{2}{3}`, flaw: "has two quantifiers in a row"},
		{expr: `(?i)a`, flaw: "has a (? that is not (?:"},
		{expr: `(?P<n>a)`, flaw: "has a (? that is not (?:"},
		{expr: `(*UTF8)a`, flaw: "has a (*"},
		{expr: `a\b`, flaw: `has \b`},
		{expr: `\pL`, flaw: `has \p`},
		{expr: `\s`, flaw: `has \s`},
		{expr: `\D`, flaw: `has \D`},
		{expr: `\1`, flaw: `has \1`},
		{expr: `\x41`, flaw: `has \x`},
		{expr: `\Qa\E`, flaw: `has \Q`},
		{expr: `a\`, flaw: `ends with a \`},
		{expr: `a^b`, flaw: "has an anchor"},
		{expr: `a|b$|c`, flaw: "has an anchor"},
		{expr: `[[:alpha:]]`, flaw: "has a [ within [ ]"},
		{expr: `[]a]`, flaw: "has an empty [ ]"},
		{expr: `[^]a]`, flaw: "has an empty [ ]"},
		{expr: `[a`, flaw: "has a [ without its ]"},
		{expr: `a]`, flaw: "has a ] without its ["},
		{expr: `[z-a]`, flaw: "is no regular expression: invalid character class range"},
		{expr: `(a`, flaw: "is no regular expression: missing closing )"},
		{expr: `*a`, flaw: "is no regular expression: missing argument"},
		{expr: `a{,3}`, flaw: "has a { that is not"},
		{expr: `a{1001}`, flaw: "has a { that is not"},
		{expr: `a}`, flaw: "has a } without its {"},
		{expr: `a b`, flaw: "has the character ' '"},
		{expr: `a"b`, flaw: `has the character '"'`},
		{expr: `a'b`, flaw: `has the character '\''`},
		{expr: `a#b`, flaw: "has the character '#'"},
		{expr: "ä", flaw: "has the character 'ä'"},
		{expr: "a\nb", flaw: `has the character '\n'`},
		{expr: `(((a{999}){9}){9}){9}`, flaw: "is no regular expression: invalid repeat count"},
	} {
		got, flaw := parseRegex(f.expr)
		if got != f.want || !strings.HasPrefix(flaw, f.flaw) || (flaw == "") != (f.flaw == "") {
			t.Errorf("parseRegex(%q) = %q, %q, want %q, %q", f.expr, got, flaw, f.want, f.flaw)
		}
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

// What is let through means the same to Go, which explains, and to PCRE2, which routes. grep -P is the second judge.
func TestEnginesAgree(t *testing.T) {
	if err := exec.Command("grep", "-qP", "a").Run(); err != nil {
		if e := (&exec.ExitError{}); !errors.As(err, &e) || e.ExitCode() > 1 {
			t.Skip("grep knows no Perl expressions here")
		}
	}
	atoms := []string{"a", "b", "/", ".", `\.`, "[a-c]", "[^/]", "[^a]", `\d`, `\w`, `[\d-]`, `[a\]]`, `\{`, "(a|b)", "(?:ab|c)", "(a)", "x|y", "-", "1", `[{}]`, "&", "(|a)"}
	quantifiers := []string{"", "", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "{0,40}"}
	inputs := []string{"", "a", "b", "ab", "abc", "/", "/a", "/a/b", "a.b", "aa", "aaa", "1", "12", "a1", "-", "]", "{}", "x", "y", "ax", "xy", "c", "cc", "&", "/ab/", "a]", "..", "A"}
	rapid.Check(t, func(t *rapid.T) {
		var expr strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "length") {
			expr.WriteString(rapid.SampledFrom(atoms).Draw(t, "atom") + rapid.SampledFrom(quantifiers).Draw(t, "quantifier"))
		}
		e, flaw := parseRegex(expr.String())
		if flaw != "" {
			t.Skip(flaw)
		}
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
}
