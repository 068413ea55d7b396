package relay

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// image is a state as it is published. It is immutable.
type image struct {
	state    []*signalbox.Service // sorted by ID
	lines    [][]byte             // lines[i] is state[i], encoded
	sums     [][sha256.Size]byte  // of the lines
	problems []signalbox.Problem
	tail     []byte // problems, encoded
}

// change is what leads from one image to the next.
type change struct {
	Generation uint64                `json:"generation"`
	Cause      string                `json:"cause,omitempty"`
	At         time.Time             `json:"at"`
	Event      time.Time             `json:"event,omitzero"`
	Whole      bool                  `json:"whole,omitempty"`
	Services   []json.RawMessage     `json:"services,omitempty"` // new ones, and those that say something else
	Gone       []signalbox.ServiceID `json:"gone,omitempty"`
	Problems   json.RawMessage       `json:"problems,omitempty"` // all of them, where they differ
	Apps       []string              `json:"apps,omitempty"`     // discovery.Explained
	Tasks      []string              `json:"tasks,omitempty"`
	Proven     []string              `json:"proven,omitempty"`
}

// next returns the image of a state, which shares with i what is the same, and the change that leads to it. No state: nothing changes.
func (i *image) next(state []*signalbox.Service, problems []signalbox.Problem) (*image, *change, error) {
	out, c := &image{problems: i.problems, tail: i.tail}, &change{}
	if i.tail == nil || !slices.Equal(i.problems, problems) {
		tail, err := json.Marshal(problems)
		if err != nil {
			return nil, nil, fmt.Errorf("encoding the problems: %w", err)
		}
		out.problems, out.tail, c.Problems = problems, tail, tail
	}
	was := 0
	var failed error
	signalbox.Walk(i.state, state, func(a, b *signalbox.Service) {
		if a != nil {
			was++
		}
		switch {
		case b == nil:
			c.Gone = append(c.Gone, a.ID)
		case a != nil && a.Equal(b):
			out.add(a, i.lines[was-1], i.sums[was-1])
		default:
			line, err := json.Marshal(b)
			if err != nil {
				failed = fmt.Errorf("encoding %s: %w", b.ID, err)
				return
			}
			c.Services = append(c.Services, line)
			out.add(b, line, sha256.Sum256(line))
		}
	})
	return out, c, failed
}

func (i *image) add(s *signalbox.Service, line []byte, sum [sha256.Size]byte) {
	i.state, i.lines, i.sums = append(i.state, s), append(i.lines, line), append(i.sums, sum)
}

// empty reports whether the change leads nowhere.
func (c *change) empty() bool { return len(c.Services)+len(c.Gone) == 0 && c.Problems == nil }

// sum returns the checksum of all that the image says.
func (i *image) sum() string {
	h := sha256.New()
	for _, s := range i.sums {
		h.Write(s[:])
	}
	h.Write(i.tail)
	return hex.EncodeToString(h.Sum(nil))
}

// apply returns the image that a change leads to.
func (i *image) apply(c *change) (*image, error) {
	fresh := &image{}
	for _, line := range c.Services {
		if err := fresh.decode(line, i); err != nil {
			return nil, err
		}
	}
	out := &image{problems: i.problems, tail: i.tail}
	if c.Problems != nil {
		out.tail = c.Problems
		if err := json.Unmarshal(c.Problems, &out.problems); err != nil {
			return nil, fmt.Errorf("decoding the problems: %w", err)
		}
		if len(out.problems) == 0 {
			out.problems = nil
		}
	}
	gone := make(map[signalbox.ServiceID]bool, len(c.Gone))
	for _, id := range c.Gone {
		gone[id] = true
	}
	was, now := 0, 0
	signalbox.Walk(i.state, fresh.state, func(a, b *signalbox.Service) {
		if a != nil {
			was++
		}
		if b != nil {
			now++
			out.add(b, fresh.lines[now-1], fresh.sums[now-1])
		} else if !gone[a.ID] {
			out.add(a, i.lines[was-1], i.sums[was-1])
		}
	})
	return out, nil
}

// decode adds the service of a line, in the order of their ids. One that like has too keeps its pointer.
func (i *image) decode(line []byte, like *image) error {
	s, sum := &signalbox.Service{}, sha256.Sum256(line)
	if err := json.Unmarshal(line, s); err != nil {
		return fmt.Errorf("decoding a service: %w", err)
	}
	if n := len(i.state); n > 0 && s.ID <= i.state[n-1].ID || s.ID == "" {
		return fmt.Errorf("the service %q is out of order", s.ID)
	}
	for _, e := range s.Endpoints {
		if !e.Addr.IsValid() || e.Addr.Port() == 0 {
			return fmt.Errorf("the service %q has a task without an address", s.ID)
		}
	}
	if at, ok := slices.BinarySearchFunc(like.state, s.ID, func(s *signalbox.Service, id signalbox.ServiceID) int {
		return strings.Compare(string(s.ID), string(id))
	}); ok && like.state[at].Equal(s) {
		s = like.state[at]
	}
	i.add(s, slices.Clone(line), sum)
	return nil
}

// encode returns the image as it is before compression: the problems on a line, then the services on one each.
func (i *image) encode() []byte {
	n := len(i.tail) + 1
	for _, l := range i.lines {
		n += len(l) + 1
	}
	out := make([]byte, 0, n)
	out = append(append(out, i.tail...), '\n')
	for _, l := range i.lines {
		out = append(append(out, l...), '\n')
	}
	return out
}

// decodeImage is the reverse of encode. What like has too keeps its pointers.
func decodeImage(b []byte, like *image) (*image, error) {
	tail, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil, errors.New("the state is cut")
	}
	out := &image{tail: slices.Clone(tail)}
	if err := json.Unmarshal(tail, &out.problems); err != nil {
		return nil, fmt.Errorf("decoding the problems: %w", err)
	}
	if len(out.problems) == 0 {
		out.problems = nil
	}
	for line := range bytes.Lines(rest) {
		line, ok := bytes.CutSuffix(line, []byte("\n"))
		if !ok {
			return nil, errors.New("the state is cut")
		}
		if err := out.decode(line, like); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// explain takes over what explains absences.
func (c *change) explain(x discovery.Explained) {
	c.Apps, c.Tasks, c.Proven = listed(x.Apps), listed(x.Tasks), listed(x.Proven)
}

func (c *change) explained() discovery.Explained {
	return discovery.Explained{Apps: set(c.Apps), Tasks: set(c.Tasks), Proven: set(c.Proven)}
}

func listed(m map[string]bool) []string {
	var out []string
	for k, ok := range m {
		if ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func set(all []string) map[string]bool {
	if len(all) == 0 {
		return nil
	}
	out := make(map[string]bool, len(all))
	for _, k := range all {
		out[k] = true
	}
	return out
}

// pack compresses.
func pack(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b) //nolint:errcheck // a buffer takes everything
	w.Close()
	return out.Bytes()
}

// unpack decompresses, up to a number of bytes.
func unpack(b []byte, most int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	if len(out) > most {
		return nil, fmt.Errorf("decompressing: more than %d bytes", most)
	}
	return out, nil
}
