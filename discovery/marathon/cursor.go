package marathon

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// The bodies that are read here are large, and read often, for a few of their fields. The body type cuts them into values while
// they arrive; the cursor walks one value once. Both are as strict as encoding/json, which judges them in the tests.

// maxDepth bounds nesting.
const maxDepth = 500

// cursor walks one JSON value. After a syntax error it is broken, and yields nothing more; a value of another type than the one
// asked for is skipped, and the first of them noted.
type cursor struct {
	b      []byte
	i      int
	depth  int
	broken bool
	wrong  string // "its tasks is a string"
}

func (c *cursor) space() {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return
		}
	}
}

// peek returns the first byte of the next value, 0 if there is none.
func (c *cursor) peek() byte {
	c.space()
	if c.broken || c.i >= len(c.b) {
		c.broken = true
		return 0
	}
	return c.b[c.i]
}

// finish marks the cursor as broken if anything is left.
func (c *cursor) finish() {
	c.space()
	if c.i != len(c.b) {
		c.broken = true
	}
}

// fields walks an object, whose values each must consume; null is an object of nothing. A value of another kind is noted as wrong
// for field. The key is good until each consumes its value.
func (c *cursor) fields(field string, each func(key []byte)) {
	if !c.open('{', field) {
		return
	}
	for first := true; c.next('}', first); first = false {
		if c.peek() != '"' {
			c.broken = true
			return
		}
		key := c.text()
		if c.peek() != ':' {
			c.broken = true
			return
		}
		c.i++
		if c.peek(); c.broken {
			return
		}
		each(key)
	}
}

// list walks a list, whose elements each must consume; else as fields.
func (c *cursor) list(field string, each func()) {
	if !c.open('[', field) {
		return
	}
	for first := true; c.next(']', first); first = false {
		each()
	}
}

// open enters an object or a list, whichever bracket begins.
func (c *cursor) open(bracket byte, field string) bool {
	switch c.peek() {
	case bracket:
		c.i++
		if c.depth++; c.depth > maxDepth {
			c.broken = true
		}
		return !c.broken
	case 'n':
		c.skip()
	default:
		c.mistype(field)
	}
	return false
}

// next goes to the next element of what open entered, and leaves it behind the last. first says that it is the first call.
func (c *cursor) next(closing byte, first bool) bool {
	switch b := c.peek(); {
	case c.broken:
		return false
	case b == closing:
		c.i++
		c.depth--
		return false
	case first:
		return true
	case b == ',':
		c.i++
		if c.peek() == closing {
			c.broken = true
		}
		return !c.broken
	}
	c.broken = true
	return false
}

func (c *cursor) mistype(field string) {
	if c.broken {
		return
	}
	kind := "a number"
	switch c.b[c.i] {
	case '"':
		kind = "a string"
	case '{':
		kind = "an object"
	case '[':
		kind = "a list"
	case 't', 'f':
		kind = "true or false"
	}
	if c.wrong == "" {
		c.wrong = "its " + field + " is " + kind
	}
	c.skip()
}

// raw consumes a value and returns its bytes.
func (c *cursor) raw() []byte {
	c.space()
	from := c.i
	c.skip()
	if c.broken {
		return nil
	}
	return c.b[from:c.i]
}

// skip consumes a value, whatever it is.
func (c *cursor) skip() {
	switch b := c.peek(); b {
	case '"':
		c.quoted()
	case '{':
		c.fields("", func([]byte) { c.skip() })
	case '[':
		c.list("", c.skip)
	case 't':
		c.word("true")
	case 'f':
		c.word("false")
	case 'n':
		c.word("null")
	default:
		c.digits()
	}
}

func (c *cursor) word(w string) {
	if !bytes.HasPrefix(c.b[c.i:], []byte(w)) {
		c.broken = true
		return
	}
	c.i += len(w)
}

// digits consumes a number as JSON writes it.
func (c *cursor) digits() {
	run := func() bool {
		from := c.i
		for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
			c.i++
		}
		return c.i > from
	}
	at := func(set string) bool {
		if c.i < len(c.b) && bytes.IndexByte([]byte(set), c.b[c.i]) >= 0 {
			c.i++
			return true
		}
		return false
	}
	at("-")
	ok := at("0") || run()
	if ok && at(".") {
		ok = run()
	}
	if ok && at("eE") {
		at("+-")
		ok = run()
	}
	if !ok {
		c.broken = true
	}
}

// quoted consumes a string. plain says that its bytes between the quotes are its text.
func (c *cursor) quoted() (inner []byte, plain bool) {
	c.i++
	from := c.i
	plain = true
	for c.i < len(c.b) {
		switch b := c.b[c.i]; {
		case b == '"':
			c.i++
			return c.b[from : c.i-1], plain
		case b == '\\':
			plain = false
			if !c.escape() {
				c.broken = true
				return nil, false
			}
		case b < 0x20:
			c.broken = true
			return nil, false
		default:
			if b >= utf8.RuneSelf {
				plain = false
			}
			c.i++
		}
	}
	c.broken = true
	return nil, false
}

func (c *cursor) escape() bool {
	rest := c.b[c.i+1:]
	if len(rest) == 0 {
		return false
	}
	if rest[0] != 'u' {
		c.i += 2
		return bytes.IndexByte([]byte(`"\/bfnrt`), rest[0]) >= 0
	}
	if len(rest) < 5 {
		return false
	}
	for _, h := range rest[1:5] {
		if hex := '0' <= h && h <= '9' || 'a' <= h && h <= 'f' || 'A' <= h && h <= 'F'; !hex {
			return false
		}
	}
	c.i += 6
	return true
}

// text consumes a string and returns its text, which is good as long as the value is.
func (c *cursor) text() []byte {
	from := c.i
	inner, plain := c.quoted()
	if plain || c.broken {
		return inner
	}
	var s string
	if json.Unmarshal(c.b[from:c.i], &s) != nil {
		c.broken = true
	}
	return []byte(s)
}

// str reads a string; null leaves it as it is.
func (c *cursor) str(field string, into *string) {
	switch c.peek() {
	case '"':
		*into = string(c.text())
	case 'n':
		c.skip()
	default:
		c.mistype(field)
	}
}

// num reads a number in any way of writing; what is none is 0.
func (c *cursor) num(into *number) {
	if raw := c.raw(); raw != nil {
		_ = into.UnmarshalJSON(raw) // never fails
	}
}

func (c *cursor) nums(field string) []number {
	var nums []number
	c.list(field, func() {
		var n number
		c.num(&n)
		nums = append(nums, n)
	})
	return nums
}

// flag reads true or false; null is nil.
func (c *cursor) flag(field string, into **bool) {
	switch c.peek() {
	case 't', 'f':
		v := c.b[c.i] == 't'
		c.skip()
		*into = &v
	case 'n':
		c.skip()
		*into = nil
	default:
		c.mistype(field)
	}
}

func (c *cursor) texts(into *texts) {
	if raw := c.raw(); raw != nil {
		_ = into.UnmarshalJSON(raw) // never fails
	}
}

// other reads a value that is too rare for a reader of its own.
func (c *cursor) other(field string, into any) {
	raw := c.raw()
	if raw == nil {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil && c.wrong == "" {
		c.wrong = "its " + field + " cannot be read: " + err.Error()
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			c.wrong = "its " + strings.TrimSuffix(field+"."+kind.Field, ".") + " is a " + kind.Value
		}
	}
}
