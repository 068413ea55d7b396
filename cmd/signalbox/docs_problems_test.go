package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/consul"
	"signalbox/discovery/file"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// codes returns every code of a problem, in order.
func codes() []signalbox.Code {
	all := slices.Concat(signalbox.Codes(), labels.Codes(), discovery.Codes(), haproxy.Codes(), marathon.Codes(), file.Codes(), consul.Codes(), control.Codes())
	slices.SortFunc(all, func(a, b signalbox.Code) int { return strings.Compare(a.Code, b.Code) })
	return all
}

// docs/problems.md is written from what the rooms say of their codes.
func TestProblemsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Problems

What is wrong with a label, a name, a task or a configuration is a problem with a code. It costs what it names and no more, and it stands
in ` + "`signalbox routes`, on the health page, in the log and in the metric `signalbox_problems`" + `, with the app, the value and what was
done instead.
`)
	titles := map[string]string{
		"SB1": "Labels", "SB2": "Conflicts and names", "SB3": "Apps, tasks and addresses", "SB4": "What HAProxy or the machine refuses",
		"SB5": "What an operator holds",
	}
	section := ""
	for _, c := range codes() {
		if hundred := c.Code[:3]; hundred != section {
			section = hundred
			fmt.Fprintf(&b, "\n## %s\n\n| code | what it means | what to do |\n| --- | --- | --- |\n", titles[section])
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Code, cell(c.Meaning), cell(c.Fix))
	}
	compareDocs(t, "problems.md", b.String())
}

// Each code has one meaning; each that the code, the goldens or the documents name is explained, and each that is explained is used.
func TestCodesAreExplained(t *testing.T) {
	explained, used := map[string]bool{}, map[string]bool{}
	for _, c := range codes() {
		if explained[c.Code] {
			t.Errorf("%s is explained twice", c.Code)
		}
		if !regexp.MustCompile(`^SB[1-5][0-9]{2}$`).MatchString(c.Code) || c.Meaning == "" || c.Fix == "" {
			t.Errorf("the explanation of %q has gaps", c.Code)
		}
		explained[c.Code] = true
	}
	code := regexp.MustCompile(`\bSB\d{3}\b`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		source := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
		if d.IsDir() || !source && !slices.Contains([]string{".txtar", ".md", ".tmpl"}, filepath.Ext(path)) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, c := range code.FindAllString(string(content), -1) {
			if !explained[c] {
				t.Errorf("%s: %s is not explained: add it to Codes of its room", path, c)
			}
			used[c] = used[c] || source && d.Name() != "codes.go"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for c := range explained {
		if !used[c] {
			t.Errorf("%s is explained, and nothing gives it", c)
		}
	}
}
