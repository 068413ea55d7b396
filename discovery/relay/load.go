package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"signalbox/discovery"
)

// maxChange bounds a change after decompression, in bytes.
const maxChange = 16 << 20

// loaded is the state of a head.
type loaded struct {
	head    *head
	image   *image
	how     string // "inline", "delta" or "base"
	cause   string
	event   time.Time
	explain discovery.Explained
}

// position is where a follower stands.
type position struct {
	generation uint64
	sum        string
	image      *image
}

// at reports whether a position is that of a head.
func (p position) at(h *head) bool { return p.generation == h.Generation && p.sum == h.Sum }

// read returns the value of a name.
type read func(ctx context.Context, name string) ([]byte, error)

var errAsk = errors.New("it is not in the head")

// load returns the state of a head, by the changes since a position if there are all of them, and else from its base. A read of nil stands
// for none: errAsk says that one is needed.
func load(ctx context.Context, h *head, from position, read read) (*loaded, error) {
	l := &loaded{head: h, how: "inline", image: from.image}
	first := h.Generation + 1 - uint64(len(h.Deltas))
	near := from.generation > 0 && from.generation < h.Generation && from.generation+1 >= first
	if near && l.follow(ctx, from.generation, read) == nil && l.image.sum() == h.Sum {
		return l, nil
	}
	if read == nil {
		return nil, errAsk
	}
	l = &loaded{head: h, how: "base", cause: "whole state"}
	whole, err := readBase(ctx, &h.Base, read)
	if err != nil {
		return nil, err
	}
	if l.image, err = decodeImage(whole, from.image); err != nil {
		return nil, err
	}
	if err := l.follow(ctx, h.Base.Generation, read); err != nil {
		return nil, err
	}
	if l.image.sum() != h.Sum {
		return nil, errors.New("the state does not have the checksum that it should have")
	}
	l.how = "base"
	return l, nil
}

// follow applies the changes after a generation.
func (l *loaded) follow(ctx context.Context, after uint64, read read) error {
	for _, d := range l.head.Deltas {
		if d.Generation <= after {
			continue
		}
		packed, ok := l.head.inline[d.Generation]
		if !ok {
			if read == nil {
				return errAsk
			}
			var err error
			if packed, err = read(ctx, d.Name); err != nil {
				return fmt.Errorf("reading the change %s: %w", d.Name, err)
			}
			l.how = "delta"
		}
		c, err := decodeChange(packed)
		if err != nil {
			return err
		}
		if c.Generation != d.Generation {
			return fmt.Errorf("the change %s is one of another generation", d.Name)
		}
		if l.image, err = l.image.apply(c); err != nil {
			return err
		}
		l.cause = discovery.Causes(l.cause, c.Cause)
		l.explain = l.explain.And(c.explained())
		if !c.Event.IsZero() && (l.event.IsZero() || c.Event.Before(l.event)) {
			l.event = c.Event
		}
	}
	return nil
}

func decodeChange(packed []byte) (*change, error) {
	text, err := unpack(packed, maxChange)
	if err != nil {
		return nil, err
	}
	c := &change{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("decoding a change: %w", err)
	}
	return c, nil
}

func readBase(ctx context.Context, b *base, read read) ([]byte, error) {
	var packed []byte
	for _, name := range b.Names {
		chunk, err := read(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("reading the chunk %s: %w", name, err)
		}
		packed = append(packed, chunk...)
	}
	if len(packed) != b.Packed {
		return nil, fmt.Errorf("the chunks have %d bytes, not %d", len(packed), b.Packed)
	}
	whole, err := unpack(packed, b.Size)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(whole); len(whole) != b.Size || hex.EncodeToString(sum[:]) != b.SHA256 {
		return nil, errors.New("the chunks do not have the checksum that they should have")
	}
	return whole, nil
}
