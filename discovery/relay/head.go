package relay

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// format is the version of what is published. Controllers of another one are another fleet: it is part of where they meet.
const format = 1

// The bounds of what is published, in bytes unless they say otherwise.
const (
	maxHead    = 64 << 10
	maxInline  = 8 << 10  // changes within the head, which followers need not ask for
	maxDelta   = 32 << 10 // a change beyond it is a new base only
	maxDeltas  = 64       // listed changes
	maxPlain   = 512 << 20
	maxChunks  = 1000
	sinceBase  = 48 // changes after which a new base follows
	leastBase  = 16 << 10
	magicBegin = "signalbox-relay "
)

// head is what followers watch: who leads, what the state is, and where it lies.
type head struct {
	Format     int       `json:"format"`
	Leader     string    `json:"leader"`     // node
	Epoch      string    `json:"epoch"`      // of the leader's term
	Beat       uint64    `json:"beat"`       // counts heads
	Generation uint64    `json:"generation"` // of the state; 0: there is none yet
	Sum        string    `json:"sum"`        // of the state, as image.sum
	Now        time.Time `json:"now"`        // by the leader's clock
	Read       time.Time `json:"read"`       // when the source last answered the leader
	Whole      time.Time `json:"whole"`      // when the last read of everything began that the state comes from
	Err        string    `json:"err,omitempty"`
	Base       base      `json:"base"`
	Deltas     []link    `json:"deltas,omitempty"` // the last changes, the newest last; each is one generation

	inline map[uint64][]byte // by generation: the newest changes themselves
}

// base is a whole state: its chunks, put together and decompressed.
type base struct {
	Generation uint64   `json:"generation"`
	Names      []string `json:"names,omitempty"` // of the chunks
	Size       int      `json:"size"`            // decompressed
	Packed     int      `json:"packed"`          // compressed
	SHA256     string   `json:"sha256"`          // of what is decompressed
}

// link is where a change lies.
type link struct {
	Generation uint64 `json:"generation"`
	Name       string `json:"name"`
	Size       int    `json:"size"`             // compressed
	Inline     bool   `json:"inline,omitempty"` // it follows the head's first line
}

// encode returns the head's bytes: a line with the checksum of the rest, a line of JSON, and the changes that it brings along. With a key
// the checksum is one that nobody makes without it.
func (h *head) encode(key []byte) ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding the head: %w", err)
	}
	body := slices.Concat(text, []byte("\n"))
	for _, l := range h.Deltas {
		if l.Inline {
			body = append(body, h.inline[l.Generation]...)
		}
	}
	out := append([]byte(magicBegin+hex.EncodeToString(seal(body, key))+"\n"), body...)
	if len(out) > maxHead {
		return nil, fmt.Errorf("the head has %d bytes, more than %d", len(out), maxHead)
	}
	return out, nil
}

func seal(body, key []byte) []byte {
	if len(key) == 0 {
		sum := sha256.Sum256(body)
		return sum[:]
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(nil)
}

func decodeHead(b, key []byte) (*head, error) {
	if len(b) > maxHead {
		return nil, fmt.Errorf("the head has %d bytes, more than %d", len(b), maxHead)
	}
	first, body, ok := bytes.Cut(b, []byte("\n"))
	sum, magic := bytes.CutPrefix(first, []byte(magicBegin))
	if !ok || !magic {
		return nil, errors.New("the head is none")
	}
	given, err := hex.DecodeString(string(sum))
	if err != nil || !hmac.Equal(given, seal(body, key)) {
		return nil, errors.New("the head is damaged, or written with another key")
	}
	text, rest, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return nil, errors.New("the head is cut")
	}
	h := &head{inline: map[uint64][]byte{}}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("decoding the head: %w", err)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	for _, l := range h.Deltas {
		if !l.Inline {
			continue
		}
		if l.Size > len(rest) {
			return nil, errors.New("the head lacks a change that it announces")
		}
		h.inline[l.Generation], rest = rest[:l.Size:l.Size], rest[l.Size:]
	}
	if len(rest) > 0 {
		return nil, errors.New("the head has more than it announces")
	}
	return h, nil
}

// check says what no leader writes.
func (h *head) check() error {
	switch {
	case h.Format != format:
		return fmt.Errorf("the head is of format %d, not %d", h.Format, format)
	case h.Generation == 0 && (len(h.Base.Names) > 0 || len(h.Deltas) > 0):
		return errors.New("the head has no state, and says where it lies")
	case h.Generation > 0 && (len(h.Base.Names) == 0 || h.Base.Generation == 0 || h.Base.Generation > h.Generation):
		return errors.New("the head does not say where the state lies")
	case len(h.Base.Names) > maxChunks || h.Base.Size < 0 || h.Base.Size > maxPlain || len(h.Deltas) > maxDeltas:
		return errors.New("the head announces more than there can be")
	}
	for i, l := range h.Deltas {
		if l.Generation != h.Generation-uint64(len(h.Deltas)-1-i) || l.Size < 0 || l.Size > maxDelta {
			return errors.New("the changes do not follow each other")
		}
	}
	if first := h.Generation - uint64(len(h.Deltas)); h.Generation > 0 && h.Base.Generation < first {
		return errors.New("changes are missing between the base and the state")
	}
	return nil
}
