package labels

import (
	"math"
	"regexp/syntax"
	"unicode"
)

// Expressions are matched against each request that no plain name or path holds, by an engine that goes back and tries again, and that
// holds up everybody's requests meanwhile. For a path of 8 KB the third power of its length, as for [^/]*[^/]*[^/]*x, takes seconds, and
// the second takes 15 ms. So what they may cost is bounded by how they are written.
const (
	maxPower = 2
	maxWays  = 1000 // up to the first power
	fewWays  = 4    // of the second
)

// slow says why matching an expression may take long, or is "".
func slow(re *syntax.Regexp) string {
	c, text := measure(re, nil, true)
	switch {
	case text != "":
		return text
	case c.power > maxPower:
		return "has too many long repetitions whose end is not told by what follows, as in .*a.*b.*c"
	case c.power == maxPower && c.ways > fewWays, c.ways > maxWays:
		return "can match in too many ways: use fewer choices and counted repetitions"
	}
	return ""
}

// cost is what an engine that goes back may have to do.
type cost struct {
	power  int     // of the subject's length: the steps of one way
	degree int     // power of that length too: how often what comes after is tried
	ways   float64 // of matching that do not grow with the length
}

// measure returns the cost of an expression that next, one character of a class, follows; nil if that is not known. last says that
// the subject ends with the expression.
func measure(re *syntax.Regexp, next []rune, last bool) (cost, string) {
	switch re.Op {
	case syntax.OpConcat:
		total := cost{ways: 1}
		for i, sub := range re.Sub {
			follows, ends := next, last
			if i+1 < len(re.Sub) {
				follows, ends = first(re.Sub[i+1]), false
			}
			c, text := measure(sub, follows, ends)
			if text != "" {
				return cost{}, text
			}
			total.power = max(total.power, total.degree+c.power)
			total.degree, total.ways = total.degree+c.degree, total.ways*c.ways
		}
		return total, ""
	case syntax.OpAlternate:
		var total cost
		for _, sub := range re.Sub {
			c, text := measure(sub, next, last)
			if text != "" {
				return cost{}, text
			}
			total.power, total.degree = max(total.power, c.power), max(total.degree, c.degree)
			total.ways += c.ways
		}
		return total, ""
	case syntax.OpCapture:
		return measure(re.Sub[0], next, last)
	case syntax.OpQuest:
		c, text := measure(re.Sub[0], next, last)
		c.ways++
		return c, text
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		return measureRepeat(re, next, last)
	}
	return cost{ways: 1}, ""
}

func measureRepeat(re *syntax.Regexp, next []rune, last bool) (cost, string) {
	body := re.Sub[0]
	if re.Op != syntax.OpRepeat || re.Max < 0 || re.Max-re.Min > maxCounted {
		if !plain(body) {
			return cost{}, "repeats something that is itself repeated or a choice; repeat single characters or plain text"
		}
		c := cost{power: 1, degree: 1, ways: 1}
		if last || next != nil && !overlap(runes(body), next) {
			c.degree = 0 // it ends where it must
		}
		if last && body.Op == syntax.OpAnyCharNotNL {
			c.power = 0 // and it always does
		}
		return c, ""
	}
	c, text := measure(body, nil, false)
	if text != "" {
		return cost{}, text
	}
	if hasLong(body) {
		return cost{}, "repeats something that is itself repeated without end"
	}
	var ways float64
	for k := re.Min; k <= re.Max; k++ {
		ways += math.Pow(c.ways, float64(k))
	}
	return cost{ways: ways}, ""
}

// hasLong reports whether there is a long repetition in an expression.
func hasLong(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus:
		return true
	case syntax.OpRepeat:
		if re.Max < 0 || re.Max-re.Min > maxCounted {
			return true
		}
	}
	for _, sub := range re.Sub {
		if hasLong(sub) {
			return true
		}
	}
	return false
}

// plain reports whether an expression matches in one way only: text, classes and sequences of them.
func plain(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			if !plain(sub) {
				return false
			}
		}
		return true
	}
	return false
}

// first returns the characters of which one must begin what an expression matches, as pairs of bounds; nil if that is not told simply.
func first(re *syntax.Regexp) []rune {
	switch re.Op {
	case syntax.OpLiteral:
		return []rune{re.Rune[0], re.Rune[0]}
	case syntax.OpCharClass:
		return re.Rune
	case syntax.OpCapture, syntax.OpConcat, syntax.OpPlus:
		return first(re.Sub[0])
	}
	return nil
}

// runes returns the characters in a plain expression, as pairs of bounds.
func runes(re *syntax.Regexp) []rune {
	var all []rune
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			all = append(all, r, r)
		}
	case syntax.OpCharClass:
		return re.Rune
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []rune{0, unicode.MaxRune}
	}
	for _, sub := range re.Sub {
		all = append(all, runes(sub)...)
	}
	return all
}

// overlap reports whether two sets of characters, as pairs of bounds, have one in common.
func overlap(a, b []rune) bool {
	for i := 0; i+1 < len(a); i += 2 {
		for j := 0; j+1 < len(b); j += 2 {
			if a[i] <= b[j+1] && b[j] <= a[i+1] {
				return true
			}
		}
	}
	return false
}
