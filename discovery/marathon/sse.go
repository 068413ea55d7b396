package marathon

import (
	"bufio"
	"bytes"
	"io"
)

// frame is one event of the stream as it was framed.
type frame struct {
	Type string
	Data []byte // the data lines, joined by LF; valid until the next call of next
	// Oversize says that the event was larger than allowed; its data is skipped, not kept.
	Oversize bool
}

// frameReader reads server-sent events. Lines end in CR, LF or CRLF, split anywhere; an event larger than max bytes is skipped.
// It dispatches at the first byte that ends an event, so that a CR whose LF comes later does not hold it up.
type frameReader struct {
	r      *bufio.Reader
	max    int
	skipLF bool
	begun  bool

	line, data []byte
	typ        string
	hasData    bool
	size       int
	oversize   bool
}

func newFrameReader(r io.Reader, maxEvent int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10), max: maxEvent}
}

// next returns the next event. An event that the stream's end cuts short is dropped.
func (f *frameReader) next() (frame, error) {
	for {
		c, err := f.r.ReadByte()
		if err != nil {
			return frame{}, err
		}
		if c == '\n' && f.skipLF {
			f.skipLF = false
			continue
		}
		f.skipLF = c == '\r'
		if c != '\r' && c != '\n' {
			f.size++
			if f.size > f.max {
				f.oversize = true
				// Of a line that is skipped only whether it is empty matters.
				f.line = append(f.line[:0], ':')
				continue
			}
			f.line = append(f.line, c)
			continue
		}
		if len(f.line) == 0 {
			if ev, ok := f.dispatch(); ok {
				return ev, nil
			}
			continue
		}
		f.field()
		f.line = f.line[:0]
	}
}

func (f *frameReader) dispatch() (frame, bool) {
	ev := frame{Type: f.typ, Data: f.data, Oversize: f.oversize}
	ok := f.hasData || f.oversize
	if f.oversize {
		ev.Data = nil
	}
	f.typ, f.hasData, f.size, f.oversize = "", false, 0, false
	f.data = f.data[:0]
	return ev, ok
}

// field takes one line that is not empty.
func (f *frameReader) field() {
	line := f.line
	if !f.begun {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		f.begun = true
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		f.typ = string(value)
	case "data":
		if f.hasData {
			f.data = append(f.data, '\n')
		}
		f.data = append(f.data, value...)
		f.hasData = true
	}
}
