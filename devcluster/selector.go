package devcluster

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// selector is a label selector: every clause must hold.
type selector []clause

type clause struct {
	key, op string // op: "", "==", "!=", "in", "notin"
	values  []string
}

var selectorToken = regexp.MustCompile(`^\s*((?:[A-Za-z0-9_.-]|\\.)+|==|!=|\(|\)|,)`)

// parseSelector reads "a, b==c, d!=e, f in (g, h), i notin (j)"; a backslash takes the next character as it is.
func parseSelector(s string) (selector, error) {
	fail := func() error {
		return failure(http.StatusUnprocessableEntity, "Can not parse label selector '%s'", s)
	}
	var tokens []string
	for rest := s; strings.TrimSpace(rest) != ""; {
		m := selectorToken.FindStringSubmatch(rest)
		if m == nil {
			return nil, fail()
		}
		tokens = append(tokens, m[1])
		rest = rest[len(m[0]):]
	}
	next := func() string {
		if len(tokens) == 0 {
			return ""
		}
		t := tokens[0]
		tokens = tokens[1:]
		return t
	}
	word := func(t string) (string, bool) {
		ok := t != "" && !slices.Contains([]string{"==", "!=", "(", ")", ","}, t)
		return regexp.MustCompile(`\\(.)`).ReplaceAllString(t, "$1"), ok
	}
	var sel selector
	for {
		var c clause
		var ok bool
		if c.key, ok = word(next()); !ok {
			return nil, fail()
		}
		if len(tokens) > 0 && tokens[0] != "," {
			c.op = next()
			switch c.op {
			case "==", "!=":
				v, ok := word(next())
				if !ok {
					return nil, fail()
				}
				c.values = []string{v}
			case "in", "notin":
				if next() != "(" {
					return nil, fail()
				}
				for sep := ","; sep != ")"; sep = next() {
					v, ok := word(next())
					if sep != "," || !ok {
						return nil, fail()
					}
					c.values = append(c.values, v)
				}
			default:
				return nil, fail()
			}
		}
		sel = append(sel, c)
		if len(tokens) == 0 {
			return sel, nil
		}
		if next() != "," {
			return nil, fail()
		}
	}
}

func (s selector) matches(labels map[string]string) bool {
	for _, c := range s {
		v, has := labels[c.key]
		in := has && slices.Contains(c.values, v)
		ok := has
		switch c.op {
		case "==", "in":
			ok = in
		case "!=", "notin":
			ok = has && !in
		}
		if !ok {
			return false
		}
	}
	return true
}
