package layout

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule is something that no file of the tree says. What it looks for begins with one of stems, in any case: the expression is slow
// and runs only where one of them is.
type rule struct {
	what  string
	stems []string
	find  *regexp.Regexp
}

// foreign are the rules, written so that this file does not break them.
var foreign = []rule{
	{"a personal path", []string{"/home/", "/users/", "/wor" + "k/", "/roo" + "t/"}, regexp.MustCompile(`/(?:home|Users)/[a-z]+/|/wor[k]/|/roo[t]/[a-z.]`)},
	{"a registry's address", []string{"proxy.golan" + "g", "registry.npm", "debia" + "n.org"}, regexp.MustCompile(`proxy\.golan[g]\.org|registry\.npmj[s]\.org|(?:deb|security)\.debia[n]\.org`)},
	{"a skipped test", []string{".ski" + "p"}, regexp.MustCompile(`\b[a-z]\.Ski[p](?:Now|f)?\(`)},
	{"an entry of a tracker", []string{"issue"}, regexp.MustCompile(`(?i)\bissue[s]? #?[0-9]`)},
	{"who or what wrote it", []string{"agen" + "t", "claud" + "e", "anthropi" + "c", "ai-", "ai ", "language mode" + "l"}, regexp.MustCompile(`(?i)\bsub-?agen[t]s?\b|\bclaud[e]\b|\banthropi[c]\b|\bA[I][- ](?:generated|written|assisted)|\blanguage mode[l]`)},
	{"how the work on it was split", []string{"sessio" + "n", "helper" + "'s", "colleagu" + "e"}, regexp.MustCompile(`(?i)\b(?:this|another|next|previous|earlier|later|last|coding) sessio[n]\b|\bhelper'[s]\b|\bcolleagu[e]s?\b`)},
	{"something left undone", []string{"tod" + "o", "fixm" + "e", "xx" + "x", "simplified fo" + "r"}, regexp.MustCompile(`\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|(?i:simplified for no[w])`)},
}

// findings returns what of foreign a text contains.
func findings(text []byte) []string {
	var found []string
	lower := strings.ToLower(string(text))
	for _, r := range foreign {
		if !slices.ContainsFunc(r.stems, func(stem string) bool { return strings.Contains(lower, stem) }) {
			continue
		}
		if m := r.find.Find(text); m != nil {
			found = append(found, r.what+": "+string(m))
		}
	}
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

// Each rule finds what it is for, and leaves the words of the trade alone.
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
