package layout

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign is what no file of the tree says. The rules are written so that this file does not find itself.
var foreign = map[string]*regexp.Regexp{
	"a personal path":              regexp.MustCompile(`/(?:home|Users)/[a-z]+/|/wor[k]/|/roo[t]/[a-z.]`),
	"a registry's address":         regexp.MustCompile(`proxy\.golan[g]\.org|registry\.npmj[s]\.org|(?:deb|security)\.debia[n]\.org`),
	"a skipped test":               regexp.MustCompile(`\b[a-z]\.Ski[p](?:Now|f)?\(`),
	"an entry of a tracker":        regexp.MustCompile(`(?i)\bissue[s]? #?[0-9]`),
	"who or what wrote it":         regexp.MustCompile(`(?i)\bsub-?agen[t]s?\b|\bclaud[e]\b|\banthropi[c]\b|\bA[I][- ](?:generated|written|assisted)|\blanguage mode[l]`),
	"how the work on it was split": regexp.MustCompile(`(?i)\b(?:this|another|next|previous|earlier|later|last|coding) sessio[n]\b|\bhelper'[s]\b|\bcolleagu[e]s?\b`),
	"something left undone":        regexp.MustCompile(`\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|(?i:simplified for no[w])`),
}

// findings returns what of foreign a text contains, sorted.
func findings(text []byte) []string {
	var found []string
	for what, rule := range foreign {
		if m := rule.Find(text); m != nil {
			found = append(found, what+": "+string(m))
		}
	}
	slices.Sort(found)
	return found
}

func TestTreeSpeaksOfItselfAlone(t *testing.T) {
	files(t, func(path string, content []byte) {
		if path == "LICENSE" || filepath.Base(path) == "go.sum" {
			return
		}
		for _, f := range findings(content) {
			t.Errorf("%s contains %s", path, f)
		}
	})
}

// Every rule finds what it is for, and leaves the words of the trade alone.
func TestForeignWordsAreFound(t *testing.T) {
	for _, pieces := range [][]string{
		{"/wor", "k/main"},
		{"/roo", "t/go"},
		{"/home", "/me/src"},
		{"https://proxy.golan", "g.org"},
		{"t.Ski", "p(1)"},
		{"b.Ski", "pNow()"},
		{"see iss", "ue 12"},
		{"Iss", "ue #3"},
		{"a sub", "agent"},
		{"Clau", "de"},
		{"AI", "-generated"},
		{"in a later ses", "sion"},
		{"the helper", "'s figures"},
		{"a collea", "gue"},
		{"// TO", "DO: later"},
		{"simplified for", " now"},
	} {
		if text := strings.Join(pieces, ""); len(findings([]byte(text))) != 1 {
			t.Errorf("%q: %v", text, findings([]byte(text)))
		}
	}
	for _, text := range []string{
		"t.Helper()", "a browser's session", "0 sessions active", "the helper process", "the issuer of a certificate", "issues a command", "todo := 1", "Skip(3)",
	} {
		if found := findings([]byte(text)); len(found) != 0 {
			t.Errorf("%q: %v", text, found)
		}
	}
}
