package labels

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the text of one template.
const (
	maxTemplate = 16 << 10 // bytes
	maxLines    = 200
	maxWords    = 64 // of a line, as HAProxy has it
)

// What is wrong with a line as HAProxy reads it.
var (
	errQuote       = errors.New("a quote is not closed")
	errEscape      = errors.New(`a \x is not followed by two hexadecimal digits`)
	errEnvironment = errors.New("reads a variable of the environment")
	errControl     = errors.New("holds a control character")
	errWords       = errors.New("has more than " + strconv.Itoa(maxWords) + " words")
)

// splitWords splits a line as HAProxy does: words at white space; quotes of either kind within a word; backslashes, which single
// quotes take literally; a comment from "#" on. Where HAProxy would look into its environment there is an error, because a label
// must not read it.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	const none, single, double = 0, '\'', '"'
	quote, open := rune(none), false
	end := func() {
		if open {
			words = append(words, word.String())
			word.Reset()
			open = false
		}
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c < ' ' && c != '\t' || c == 0x7f:
			return nil, errControl
		case quote == none && (c == ' ' || c == '\t'):
			end()
			continue
		case quote == none && c == '#':
			end()
			return bounded(words)
		case c == '\'' && quote != double, c == '"' && quote != single:
			open = true
			if quote == none {
				quote = rune(c)
			} else {
				quote = none
			}
			continue
		case c == '$' && quote == double:
			return nil, errEnvironment
		case c == '\\' && quote != single:
			plain, used, err := unescape(line[i+1:], quote == double)
			if err != nil {
				return nil, err
			}
			if used > 0 {
				c, i = plain, i+used
			}
		}
		word.WriteByte(c)
		open = true
	}
	if quote != none {
		return nil, errQuote
	}
	end()
	return bounded(words)
}

func bounded(words []string) ([]string, error) {
	if len(words) > maxWords {
		return nil, errWords
	}
	return words, nil
}

// unescape reads what follows a backslash: the byte it stands for, and the bytes it takes. Zero says that HAProxy leaves the
// backslash as it is.
func unescape(rest string, quoted bool) (plain byte, used int, err error) {
	if rest == "" {
		return 0, 0, nil
	}
	switch c := rest[0]; c {
	case ' ', '\\', '#', '"', '\'':
		return c, 1, nil
	case '$':
		if quoted {
			return c, 1, nil
		}
	case 't':
		return '\t', 1, nil
	case 'n':
		return '\n', 1, nil
	case 'r':
		return '\r', 1, nil
	case 'x':
		if len(rest) < 3 || !isHex(rest[1]) || !isHex(rest[2]) {
			return 0, 0, errEscape
		}
		n, _ := strconv.ParseUint(rest[1:3], 16, 8) // two hexadecimal digits
		return byte(n), 3, nil
	}
	return 0, 0, nil
}

// line is one line of a template.
type line struct {
	words []string
	text  string // as it stands
	err   error  // it is no line to HAProxy
}

// splitLines returns the lines of a text that say something. \r\n ends a line too, as marathon-lb has it.
func splitLines(text string) []line {
	var lines []line
	for raw := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		raw = strings.Trim(raw, " \t")
		if raw == "" || raw[0] == '#' {
			continue
		}
		words, err := splitWords(raw)
		if err == nil && !utf8.ValidString(raw) {
			err = errControl
		}
		if len(words) > 0 || err != nil {
			lines = append(lines, line{words: words, text: raw, err: err})
		}
	}
	return lines
}

// The placeholders that marathon-lb replaces in a template come out as words "{name}" of their own, or as parts of words, so
// that what they stand for never has to be spelled. Those in loose begin with a space where they stand for anything.
var loosePlaceholders = []string{"sslCert", "bindOptions", "cookieOptions", "healthCheckOptions", "otherOptions", "healthCheckPortOptions"}

// fill reads the braces of a template as marathon-lb's formatting does: doubled ones are braces, single ones hold the name of a
// placeholder. It returns what is wrong with them, which stops marathon-lb altogether.
func fill(text string, known []string) (string, string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c != '{' && c != '}':
			b.WriteByte(c)
		case i+1 < len(text) && text[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '}':
			return "", `has a "}" that is neither doubled nor the end of a placeholder`
		default:
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", `has a "{" that is neither doubled nor the beginning of a placeholder`
			}
			name := text[i+1 : i+end]
			if !slices.Contains(known, name) {
				return "", "has the placeholder {" + printable(cut(name, 40)) + "}, which marathon-lb does not fill here"
			}
			if slices.Contains(loosePlaceholders, name) {
				b.WriteByte(' ')
			}
			b.WriteString(text[i : i+end+1])
			if slices.Contains(loosePlaceholders, name) {
				b.WriteByte(' ')
			}
			i += end
		}
	}
	return b.String(), ""
}
