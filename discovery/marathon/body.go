package marathon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxValue bounds one value of a body, such as an app with its tasks: thousands of tasks need a quarter of it, and a body is
// never held whole.
const maxValue = 32 << 20

// body cuts a stream into JSON values.
type body struct {
	r          io.Reader
	buf        []byte
	start, end int // what of buf is not used yet
}

func newBody(r io.Reader, limit int64, size int) *body {
	return &body{r: &cappedReader{r: r, left: limit}, buf: make([]byte, size)}
}

// more reads on behind end. The bytes from start move.
func (b *body) more() error {
	if b.start > 0 {
		copy(b.buf, b.buf[b.start:b.end])
		b.start, b.end = 0, b.end-b.start
	}
	if b.end == len(b.buf) {
		if len(b.buf) >= maxValue {
			return fmt.Errorf("one value of it: %w", ErrTooLarge)
		}
		b.buf = append(b.buf, make([]byte, len(b.buf))...)
	}
	for range 100 {
		n, err := b.r.Read(b.buf[b.end:])
		b.end += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// peek returns the next byte that is no white space; io.EOF if there is none.
func (b *body) peek() (byte, error) {
	for {
		for ; b.start < b.end; b.start++ {
			switch c := b.buf[b.start]; c {
			case ' ', '\t', '\r', '\n':
			default:
				return c, nil
			}
		}
		if err := b.more(); err != nil {
			return 0, err
		}
	}
}

// want consumes one of two bytes and returns which; anything else is an error.
func (b *body) want(x, y byte) (byte, error) {
	c, err := b.peek()
	if err != nil {
		return 0, truncated(err)
	}
	if c != x && c != y {
		return 0, fmt.Errorf("%w: %q in the wrong place", ErrSyntax, c)
	}
	b.start++
	return c, nil
}

// value consumes the next value and returns its bytes, which are good until the next call. Only its brackets and quotes have
// been looked at.
func (b *body) value() ([]byte, error) {
	if _, err := b.peek(); err != nil {
		return nil, truncated(err)
	}
	depth, quoted := 0, false
	for i := 0; ; i++ {
		if b.start+i == b.end {
			if err := b.more(); err != nil {
				return nil, truncated(err)
			}
		}
		c := b.buf[b.start+i]
		if quoted {
			switch c {
			case '\\':
				i++
				if b.start+i == b.end {
					if err := b.more(); err != nil {
						return nil, truncated(err)
					}
				}
				continue
			case '"':
				quoted = false
			default:
				continue
			}
		} else {
			switch c {
			case '"':
				quoted = true
				continue
			case '{', '[':
				depth++
				continue
			case '}', ']':
				if depth--; depth < 0 { // the end of a bare word
					return b.cut(i), nil
				}
			case ',', ' ', '\t', '\r', '\n':
				if depth == 0 {
					return b.cut(i), nil
				}
				continue
			default:
				continue
			}
		}
		if depth == 0 {
			return b.cut(i + 1), nil
		}
	}
}

func (b *body) cut(n int) []byte {
	v := b.buf[b.start : b.start+n]
	b.start += n
	return v
}

// members walks the one object that the body holds. member consumes the value of a key.
func (b *body) members(member func(key string) error) error {
	c, err := b.peek()
	switch {
	case errors.Is(err, io.EOF):
		return ErrEmpty
	case err != nil:
		return err
	case bytes.IndexByte([]byte(`["-0123456789ntf`), c) >= 0:
		return ErrNotObject
	case c != '{':
		return fmt.Errorf("%w: it begins with %q", ErrSyntax, c)
	}
	b.start++
	first := true
	for {
		c, err := b.peek()
		if err != nil {
			return truncated(err)
		}
		if first && c == '}' {
			b.start++
			return b.atEnd()
		}
		first = false
		if c != '"' {
			return fmt.Errorf("%w: %q in the place of a key", ErrSyntax, c)
		}
		raw, err := b.value()
		if err != nil {
			return err
		}
		key := cursor{b: raw}
		name := string(key.text())
		if key.finish(); key.broken {
			return ErrSyntax
		}
		if _, err := b.want(':', ':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if c, err = b.want(',', '}'); err != nil {
			return err
		}
		if c == '}' {
			return b.atEnd()
		}
	}
}

// elements walks a list. element consumes one of them.
func (b *body) elements(element func() error) error {
	if _, err := b.want('[', '['); err != nil {
		return err
	}
	if c, err := b.peek(); err != nil {
		return truncated(err)
	} else if c == ']' {
		b.start++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if c, err := b.want(',', ']'); err != nil || c == ']' {
			return err
		}
	}
}

// skip consumes a value that nobody wants.
func (b *body) skip() error {
	raw, err := b.value()
	if err != nil {
		return err
	}
	c := cursor{b: raw}
	c.skip()
	if c.finish(); c.broken {
		return ErrSyntax
	}
	return nil
}

func (b *body) atEnd() error {
	c, err := b.peek()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %q behind its end", ErrSyntax, c)
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
