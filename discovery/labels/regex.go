package labels

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// Limits of regular expressions.
const (
	maxRegex   = 200 // bytes
	maxCounted = 16  // a repetition with more choices is a long one
)

// parsePathRegex returns a regular expression of whole paths.
func parsePathRegex(s string) (string, *flaw) {
	expr, text := parseRegex(s)
	if text != "" {
		return "", &flaw{code: "SB120", value: s, text: text}
	}
	return expr, nil
}

// parseHostRegex returns a regular expression of whole host names, in lower case, with "~" before it.
func parseHostRegex(s string, o *Options) (string, *flaw) {
	expr, text := parseRegex(strings.ToLower(s))
	if text != "" {
		return "", &flaw{code: "SB120", value: "~" + s, text: text}
	}
	whole := regexp.MustCompile("^(?:" + expr + ")$")
	for _, r := range o.Reserved {
		if whole.MatchString(r) {
			return "", &flaw{code: "SB116", value: "~" + s, text: "matches " + r + ", which is reserved on this load balancer"}
		}
	}
	return "~" + expr, nil
}

// parseRegex returns an expression that matches whole strings, without the anchors that this needs. It lets through what Go's and
// Perl's engines understand in one way and what the latter matches in bounded time; else it says what is wrong.
func parseRegex(s string) (expr, text string) {
	s = strings.TrimPrefix(s, "^")
	if trimmed, ok := strings.CutSuffix(s, "$"); ok && (len(trimmed)-len(strings.TrimRight(trimmed, `\`)))%2 == 0 {
		s = trimmed
	}
	switch {
	case s == "":
		return "", "is empty"
	case len(s) > maxRegex:
		return "", fmt.Sprintf("is longer than %d bytes", maxRegex)
	}
	if text := notCommon(s); text != "" {
		return "", text
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return "", "is no regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	if text := slow(tree); text != "" {
		return "", text
	}
	if _, err := regexp.Compile("^(?:" + s + ")$"); err != nil {
		return "", "is too large"
	}
	return s, ""
}

// notCommon says which part of an expression is not common to the engines, or may not stand in a map file, or is "".
func notCommon(s string) string {
	class := false // within [ ]
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte("\"'`#", c) >= 0 {
			r, _ := utf8.DecodeRuneInString(s[i:])
			return fmt.Sprintf("has the character %q, which may not stand in a regular expression", r)
		}
		switch c {
		case '\\':
			i++
			if i == len(s) {
				return `ends with a \`
			}
			if e := s[i]; e != 'd' && e != 'w' && strings.IndexByte(`\.+*?()|[]{}^$-/:_~@!&=;,%<>`, e) < 0 {
				return fmt.Sprintf(`has \%c; only \d, \w and signs may stand after a \`, printableByte(e))
			}
		case '[':
			if class {
				return `has a [ within [ ]; write it as \[`
			}
			class = true
			if strings.HasPrefix(s[i+1:], "^") {
				i++
			}
			if strings.HasPrefix(s[i+1:], "]") {
				return `has an empty [ ]; write ] as \]`
			}
		case ']':
			if !class {
				return `has a ] without its [; write it as \]`
			}
			class = false
		case '(':
			if rest := s[i+1:]; !class && strings.HasPrefix(rest, "?") && !strings.HasPrefix(rest, "?:") {
				return "has a (? that is not (?:"
			} else if !class && strings.HasPrefix(rest, "?:") {
				i += 2
			}
			if !class && i+1 < len(s) && s[i+1] == '*' {
				return "has a (*"
			}
		case '^', '$':
			if !class {
				return "has an anchor; the whole is matched in any case"
			}
		case '{':
			if !class && !counted.MatchString(s[i:]) {
				return `has a { that is not {n}, {n,} or {n,m}; write it as \{`
			}
			if !class {
				i += strings.IndexByte(s[i:], '}')
				if text := notLast(s, i); text != "" {
					return text
				}
			}
		case '}':
			if !class {
				return `has a } without its {; write it as \}`
			}
		case '*', '+', '?':
			if text := notLast(s, i); !class && text != "" {
				return text
			}
		}
	}
	if class {
		return "has a [ without its ]"
	}
	return ""
}

var counted = regexp.MustCompile(`^\{[0-9]{1,3}(,[0-9]{0,3})?\}`)

// notLast says that a second quantifier follows the one that ends at i, or is "".
func notLast(s string, i int) string {
	if i+1 < len(s) && strings.IndexByte("*+?{", s[i+1]) >= 0 {
		return "has two quantifiers in a row, such as a lazy *?"
	}
	return ""
}

func printableByte(c byte) rune {
	if c <= ' ' || c > '~' {
		return '\ufffd'
	}
	return rune(c)
}
