package labels

import (
	"regexp"
	"strings"

	"signalbox"
)

// parsePathRegex returns a regular expression of whole paths.
func parsePathRegex(s string) (string, *flaw) {
	expr := withoutAnchors(s)
	if err := signalbox.CheckRegex(expr); err != nil {
		return "", badRegex(s, err)
	}
	return expr, nil
}

// parseHostRegex returns a regular expression of whole host names, in lower case, with "~" before it.
func parseHostRegex(s string, o *Options) (string, *flaw) {
	expr := lowered(withoutAnchors(s))
	if err := signalbox.CheckRegex(expr); err != nil {
		return "", badRegex("~"+s, err)
	}
	whole, err := regexp.Compile("^(?:" + expr + ")$")
	if err != nil {
		return "", badRegex("~"+s, err)
	}
	for _, r := range o.Reserved {
		if whole.MatchString(r) {
			return "", &flaw{code: "SB116", value: "~" + s, text: "matches " + r + ", which is reserved on this load balancer"}
		}
	}
	return "~" + expr, nil
}

func badRegex(s string, err error) *flaw {
	return &flaw{code: "SB120", value: s, text: "is no regular expression to route by: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
}

// withoutAnchors takes off the anchors at the ends of an expression: the whole is matched in any case.
func withoutAnchors(s string) string {
	s = strings.TrimPrefix(s, "^")
	if trimmed, ok := strings.CutSuffix(s, "$"); ok && (len(trimmed)-len(strings.TrimRight(trimmed, `\`)))%2 == 0 {
		s = trimmed
	}
	return s
}

// lowered turns the letters of an expression into lower case, but not those after a backslash, which mean something else then.
func lowered(s string) string {
	b := []byte(s)
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			i++
		case 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}
