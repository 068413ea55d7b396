package signalbox

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// The bounds of regular expressions. HAProxy matches by backtracking, in the thread that serves everybody: an expression may take
// no time worth noticing, whatever the path.
const (
	MaxRegex     = 200  // bytes
	maxRegexSize = 4096 // places of an expression whose repetitions are written out
	maxRegexWays = 4096 // ways through the parts of an expression that are bounded; a wild repetition leaves fewer
	maxRegexWild = 2    // unbounded repetitions that can give way to one another
)

// CheckRegex returns why an expression cannot be that of a route: it must be one that Go and PCRE read alike, and bounded.
func CheckRegex(expr string) error {
	if expr == "" || len(expr) > MaxRegex {
		return fmt.Errorf("a regular expression has 1 to %d bytes", MaxRegex)
	}
	for i := range len(expr) {
		if c := expr[i]; c <= ' ' || c > '~' || c == '"' || c == '\'' || c == '`' || c == '#' {
			return errors.New("a regular expression is of printable ASCII, without spaces, quotes and #")
		}
	}
	if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
		return err
	}
	return (&regexScan{rest: expr}).run()
}

// regexScan reads an expression that parses, and measures in how many ways it can be tried. What Go's parser makes of an expression
// would not do: it is simpler than what PCRE tries.
type regexScan struct {
	rest   string
	groups []regexAtom // open ones, the outermost first
	ways   int
	wild   int
	open   bool // an unbounded repetition came since the last slash that must be there
}

// regexAtom is a piece of an expression that a repetition can follow.
type regexAtom struct {
	size   int
	varies bool // it can be matched in several ways: it has an alternative, or a repetition with a choice
	slash  bool // what it matches can have a slash in it
	fixed  bool // it is a slash
}

func (s *regexScan) run() error {
	s.groups, s.ways = []regexAtom{{}}, 1
	for s.rest != "" {
		atom, ok, err := s.atom()
		if err != nil {
			return err
		}
		if ok {
			if err := s.repeat(atom); err != nil {
				return err
			}
		}
	}
	if s.wild > maxRegexWild || s.ways > maxRegexWays>>(5*s.wild) || s.groups[0].size > maxRegexSize {
		return errors.New("the regular expression can be tried in too many ways: write [^/]* instead of .*, and fewer alternatives")
	}
	return nil
}

// atom takes the next piece; ok is false for one that no repetition can follow.
func (s *regexScan) atom() (a regexAtom, ok bool, err error) {
	c := s.rest[0]
	take := func(n int) { s.rest = s.rest[n:] }
	switch c {
	case '(':
		take(1)
		if strings.HasPrefix(s.rest, "?") {
			if !strings.HasPrefix(s.rest, "?:") {
				return a, false, errors.New("a group has another beginning than ( and (?: alone")
			}
			take(2)
		}
		s.groups = append(s.groups, regexAtom{})
		return a, false, nil
	case ')':
		take(1)
		a = s.groups[len(s.groups)-1]
		s.groups = s.groups[:len(s.groups)-1]
		return a, true, nil
	case '|':
		take(1)
		s.groups[len(s.groups)-1].varies = true
		s.ways = min(2*s.ways, maxRegexWays+1)
		return a, false, nil
	case '^', '$':
		take(1)
		return a, false, nil
	case '[':
		n := classEnd(s.rest)
		class := s.rest[:n]
		if strings.Contains(class[1:], "[") || strings.ContainsAny(class[1:2], ":.=") { // PCRE's named ones
			return a, false, errors.New("a class begins with none of :.= and has no [ in it")
		}
		take(n)
		return regexAtom{size: 33, slash: matchesSlash(class)}, true, nil
	case '\\':
		escape := s.rest[:2]
		take(2)
		if isAlnum(escape[1]) && strings.IndexByte("dDwWsS", escape[1]) < 0 {
			return a, false, fmt.Errorf("%s is not understood in a regular expression", escape)
		}
		return regexAtom{size: 2, slash: matchesSlash(escape)}, true, nil
	case '{', '}':
		return a, false, fmt.Errorf("%c stands alone", c)
	case '*', '+', '?':
		return a, false, errors.New("a repetition is greedy, and of one piece")
	}
	take(1)
	return regexAtom{size: 1, slash: c == '/' || c == '.', fixed: c == '/'}, true, nil
}

// repeat takes the repetition that follows a piece, if one does, and enters both into their group.
func (s *regexScan) repeat(a regexAtom) error {
	low, high := 1, 1 // -1: unbounded
	switch {
	case s.rest == "":
	case s.rest[0] == '*':
		low, high, s.rest = 0, -1, s.rest[1:]
	case s.rest[0] == '+':
		high, s.rest = -1, s.rest[1:]
	case s.rest[0] == '?':
		low, s.rest = 0, s.rest[1:]
	case s.rest[0] == '{':
		n := strings.IndexByte(s.rest, '}')
		if n < 0 {
			return errors.New("{ stands alone")
		}
		from, to, between := strings.Cut(s.rest[1:n], ",")
		var err error
		if low, err = strconv.Atoi(from); err != nil {
			return errors.New("a repetition is written {n}, {n,} or {n,m}")
		}
		switch {
		case !between:
			high = low
		case to == "":
			high = -1
		default:
			if high, err = strconv.Atoi(to); err != nil {
				return errors.New("a repetition is written {n}, {n,} or {n,m}")
			}
		}
		s.rest = s.rest[n+1:]
	}
	group := &s.groups[len(s.groups)-1]
	if a.varies && high != 0 && high != 1 {
		return errors.New("what is repeated has alternatives or repetitions of its own")
	}
	if high < 0 {
		if a.slash || s.open {
			s.wild++
		}
		s.open = true
	} else if low != high {
		s.ways = min(s.ways*(high-low+1), maxRegexWays+1)
	}
	if a.fixed && low > 0 && len(s.groups) == 1 {
		s.open = false
	}
	group.size += a.size * max(low, high, 1)
	group.slash = group.slash || a.slash
	group.varies = group.varies || a.varies || low != high
	return nil
}

// classEnd returns where a class ends which an expression that parses begins with.
func classEnd(expr string) int {
	i := 1
	if strings.HasPrefix(expr[i:], "^") {
		i++
	}
	for first := i; i < len(expr) && (expr[i] != ']' || i == first); i++ {
		if expr[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(expr))
}

func matchesSlash(class string) bool {
	re, err := regexp.Compile(class)
	return err != nil || re.MatchString("/")
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
