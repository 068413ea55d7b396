package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// The names of values begin with what they are.
const (
	baseNames  = "base/"
	deltaNames = "change/"
)

// news is what a leader has to tell. The zero value tells that it leads still.
type news struct {
	state    []*signalbox.Service // nil: as before
	problems []signalbox.Problem
	explain  discovery.Explained
	cause    string
	at       time.Time // when the read of state began
	event    time.Time
	whole    bool
	read     time.Time // when the source last answered
	err      string    // why it does not
	rebase   bool      // the whole state is to be written anew
}

// publisher publishes for one term. It is of one goroutine.
type publisher struct {
	term    Term
	key     []byte
	most    int // bytes of a chunk
	head    *head
	image   *image
	floor   uint64 // generations up to it were given already
	read    read
	garbage []string // names that the head before the last still needed
	metrics *sourceMetrics
}

// take returns the head with which a term begins: all that the one before said of the state, where it can be carried on.
func take(old *head, node, epoch string, now time.Time) *head {
	h := &head{Format: format, inline: map[uint64][]byte{}}
	if old != nil {
		copied := *old
		h = &copied
		h.Deltas = slices.Clone(old.Deltas)
	}
	h.Leader, h.Epoch, h.Now, h.Beat, h.Err = node, epoch, now, h.Beat+1, "it has just been elected, and has not read yet"
	return h
}

// publish tells what is new. On an error nothing is counted as told; what was may be told again.
func (p *publisher) publish(ctx context.Context, n news, now time.Time) error {
	h := *p.head
	h.Beat, h.Now, h.Err = h.Beat+1, now, n.err
	if !n.read.IsZero() {
		h.Read = n.read
	}
	if n.whole {
		h.Whole = n.at
	}
	img, values := p.image, map[string][]byte(nil)
	var garbage []string
	if n.state != nil {
		next, c, err := p.image.next(n.state, n.problems)
		if err != nil {
			return err
		}
		if !c.empty() || h.Generation == 0 {
			h.Generation = max(h.Generation, p.floor) + 1
			c.Generation, c.Cause, c.At, c.Event, c.Whole = h.Generation, n.cause, n.at, n.event, n.whole
			c.explain(n.explain)
			img, h.Sum = next, next.sum()
			if values, garbage, err = p.place(ctx, &h, img, c); err != nil {
				return err
			}
		}
	}
	if n.rebase && h.Generation > 0 {
		if h.Base.Generation != h.Generation {
			h.Deltas, h.inline = nil, nil
		}
		if err := p.putBase(ctx, &h, img); err != nil {
			return err
		}
	}
	text, err := h.encode(p.key)
	if err != nil {
		return err
	}
	if err := p.term.Publish(ctx, text, values); err != nil {
		return err
	}
	kind := "beat"
	if h.Generation != p.head.Generation {
		kind = "change"
	}
	p.metrics.published.WithLabelValues(kind).Inc()
	p.metrics.bytes.WithLabelValues("head").Add(float64(len(text)))
	for _, v := range values {
		p.metrics.bytes.WithLabelValues("change").Add(float64(len(v)))
	}
	p.head, p.image = &h, img
	for _, name := range p.garbage { // whoever still reads it looks at the head again
		if err := p.term.Delete(ctx, name); err != nil {
			return nil //nolint:nilerr // the next term sweeps
		}
	}
	p.garbage = garbage
	return nil
}

// place says in the head where an image is found: a change where that is small, and a new base where changes would not be.
func (p *publisher) place(ctx context.Context, h *head, img *image, c *change) (values map[string][]byte, garbage []string, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a change: %w", err)
	}
	packed := pack(text)
	sum, since := len(packed), uint64(1)
	for _, l := range h.Deltas {
		if l.Generation > h.Base.Generation {
			sum, since = sum+l.Size, since+1
		}
	}
	small := len(packed) <= min(maxDelta, p.most) && len(text) <= maxChange
	if !small || h.Base.Generation == 0 || since > sinceBase || sum > max(leastBase, h.Base.Packed/2) {
		garbage = append(garbage, h.Base.Names...)
		if err := p.putBase(ctx, h, img); err != nil {
			return nil, nil, err
		}
	}
	deltas := slices.Clone(h.Deltas)
	if small {
		name := fmt.Sprintf("%s%d-%s", deltaNames, h.Generation, h.mark())
		deltas = append(deltas, link{Generation: h.Generation, Name: name, Size: len(packed)})
		values = map[string][]byte{name: packed}
	} else {
		for _, l := range deltas {
			garbage = append(garbage, l.Name)
		}
		deltas = nil
	}
	for len(deltas) > maxDeltas {
		garbage, deltas = append(garbage, deltas[0].Name), deltas[1:]
	}
	inline, room := map[uint64][]byte{}, maxInline
	for i := len(deltas) - 1; i >= 0; i-- {
		l := &deltas[i]
		body := h.inline[l.Generation]
		if l.Generation == h.Generation {
			body = packed
		}
		room -= l.Size
		l.Inline = body != nil && room >= 0
		if l.Inline {
			inline[l.Generation] = body
		} else {
			room = -1
		}
	}
	h.Deltas, h.inline = deltas, inline
	return values, garbage, nil
}

// putBase writes the whole of an image.
func (p *publisher) putBase(ctx context.Context, h *head, img *image) error {
	whole := img.encode()
	if len(whole) > maxPlain {
		return fmt.Errorf("the state has %d bytes, more than %d", len(whole), maxPlain)
	}
	packed, sum := pack(whole), sha256.Sum256(whole)
	b := base{Generation: h.Generation, Size: len(whole), Packed: len(packed), SHA256: hex.EncodeToString(sum[:])}
	for chunk := range slices.Chunk(packed, p.most) {
		name := fmt.Sprintf("%s%d-%s/%d", baseNames, h.Generation, h.mark(), len(b.Names))
		if err := p.term.Put(ctx, name, chunk); err != nil {
			return fmt.Errorf("writing the chunk %s: %w", name, err)
		}
		b.Names = append(b.Names, name)
		p.metrics.bytes.WithLabelValues("base").Add(float64(len(chunk)))
	}
	p.metrics.bases.Inc()
	h.Base = b
	return nil
}

// mark tells the names of one term from those of another.
func (h *head) mark() string { return h.Epoch[:min(8, len(h.Epoch))] }

// audit sweeps, and reports whether what is published can't be read as it was written.
func (p *publisher) audit(ctx context.Context) (damaged bool) {
	if err := p.sweep(ctx); err != nil || p.head.Generation == 0 {
		return false
	}
	got, err := load(ctx, p.head, position{image: p.image}, p.read)
	if err == nil && got.image.sum() == p.head.Sum || ctx.Err() != nil {
		return false
	}
	p.metrics.errors.WithLabelValues(errorState).Inc()
	return true
}

// sweep deletes what earlier terms left and the head does not need.
func (p *publisher) sweep(ctx context.Context) error {
	names, err := p.term.Names(ctx)
	if err != nil {
		return fmt.Errorf("listing what is published: %w", err)
	}
	needed := map[string]bool{}
	for _, name := range p.head.Base.Names {
		needed[name] = true
	}
	for _, l := range p.head.Deltas {
		needed[l.Name] = true
	}
	for _, name := range names {
		if needed[name] || !strings.HasPrefix(name, baseNames) && !strings.HasPrefix(name, deltaNames) {
			continue
		}
		if err := p.term.Delete(ctx, name); err != nil {
			return fmt.Errorf("deleting %s: %w", name, err)
		}
	}
	return nil
}
