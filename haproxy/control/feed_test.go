package control

import (
	"bytes"
	"io"
	"testing"
)

// chunks gives one piece at a time, and calls before first.
type chunks struct {
	pieces []string
	before func()
}

func (c *chunks) Read(p []byte) (int, error) {
	c.before()
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	c.pieces = c.pieces[1:]
	return n, nil
}

// Whatever HAProxy puts around the lines and wherever they are cut, each has gone before more is waited for.
func TestFramesHoldNothingBack(t *testing.T) {
	var out bytes.Buffer
	var seen []string
	in := &chunks{pieces: []string{"<6>one\n\n", "<6>two\n<6>th", "ree\nno message\n<6>cut"}}
	in.before = func() { seen = append(seen, out.String()) }
	if err := frame(&out, in); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "6 <6>one", "6 <6>one6 <6>two", "6 <6>one6 <6>two8 <6>three"} {
		if seen[i] != want {
			t.Errorf("before read %d it has %q, want %q", i, seen[i], want)
		}
	}
}
