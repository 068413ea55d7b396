package labels

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"signalbox"
)

// lines reads the lines of a template and reports whether there are any to go on with.
func (t *translation) lines(c claim, known []string) []line {
	text := c.value
	fail := func(why string) []line {
		t.problem(c, "SB142", signalbox.SeverityError, why, "it is ignored")
		t.broken = append(t.broken, c)
		if restrictive.MatchString(c.value) {
			t.close(c, "cannot be read, and may restrict who enters")
		}
		return nil
	}
	if len(text) > maxTemplate {
		return fail(fmt.Sprintf("is longer than %d bytes", maxTemplate))
	}
	if known != nil {
		var trouble string
		if text, trouble = fill(text, known); trouble != "" {
			return fail(trouble)
		}
	}
	lines := splitLines(text)
	if len(lines) > maxLines {
		return fail(fmt.Sprintf("has more than %d lines", maxLines))
	}
	return lines
}

// template reads each line of a template with read. heads are words that begin lines which are part of the frame.
func (t *translation) template(c claim, known []string, read func(claim, line) (outcome, string), heads ...string) {
	raw := t.allowRaw && isBackendTemplate(c.twin)
	lines, told := t.lines(c, known), len(t.problems)
	for i, l := range lines {
		if l.err == nil && slices.Contains(heads, l.words[0]) && slices.Contains(l.words[1:], "{backend}") && len(l.words) == 2 {
			continue
		}
		result, why := unsaid, ""
		if l.err != nil {
			why = l.err.Error()
			t.broken = append(t.broken, c)
			if restrictive.MatchString(l.text) {
				result = restricting
			}
		} else {
			result, why = read(c, l)
		}
		if raw && l.err == nil && l.words[0] == "acl" || raw && l.err == nil && (result == unsaid || result == restricting) {
			if t.pasted(l) {
				continue
			}
		}
		if len(t.problems) < told+maxFlaws || result == restricting {
			t.report(c, l, result, why)
		}
		if result == leaving {
			if slices.ContainsFunc(lines[i:], func(l line) bool { return restrictive.MatchString(l.text) }) {
				t.close(c, why+", and lines that may restrict who enters follow")
			}
			return
		}
	}
}

// pasted lets a line into the backend as it stands, unless it says what marathon-lb would have filled in.
func (t *translation) pasted(l line) bool {
	if len(l.text) > maxRawLine || strings.Contains(l.text, "{") && placeholder(l.text) {
		return false
	}
	t.raws = append(t.raws, l.text)
	return true
}

// maxRawLine bounds a line that goes into the configuration as it stands, in bytes.
const maxRawLine = 1024

// placeholder reports whether a text holds {name}.
func placeholder(s string) bool {
	for {
		i := strings.IndexByte(s, '{')
		if i < 0 {
			return false
		}
		s = s[i+1:]
		if end := strings.IndexByte(s, '}'); end > 0 && strings.IndexFunc(s[:end], func(r rune) bool {
			return r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		}) < 0 && strings.Trim(s[:end], "0123456789") != "" {
			return true
		}
	}
}

// report tells people what became of a line.
func (t *translation) report(c claim, l line, result outcome, why string) {
	c.value = l.text
	switch result {
	case approximate:
		t.problem(c, "SB141", signalbox.SeverityInfo, "is carried out nearly: "+why, "the rest is used")
	case unsaid:
		t.problem(c, "SB140", signalbox.SeverityError, why, "the line is left out")
	case leaving:
		t.problem(c, "SB150", signalbox.SeverityError, why, "the rest of the template is left out")
	case restricting:
		t.close(c, why)
	}
}

// restrictive finds the words of HAProxy that restrict who may enter, in lines that cannot be read any better.
var restrictive = regexp.MustCompile(`(?i)deny|reject|tarpit|auth|block|drop|allow`)

var secretWord = regexp.MustCompile(`(?i)auth|passw|secret|token|cookie|api-?key`)

// publicText returns the text of a template for people: of a line that may hold a password no more than its first words.
func publicText(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		words := strings.Fields(l)
		if len(words) > 3 && words[0] != "server" && words[0] != "cookie" && secretWord.MatchString(l) {
			lines[i] = strings.Join(words[:3], " ") + " …"
		}
	}
	return strings.Join(lines, "\n")
}
