package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// What an acceptance can fail with.
var (
	ErrNoSource    = errors.New("there is no such source")
	ErrNothingHeld = errors.New("nothing is held back")
	ErrMoved       = errors.New("what is held back has changed meanwhile")
)

// Quarantine is a state that a source has read and that is held back, beside the one that is served.
type Quarantine struct {
	Source string
	Since  time.Time // start of the first read that missed what is missing
	// Reads is how many whole reads have confirmed it, of the Needed ones over at least Span.
	Reads, Needed int
	Span          time.Duration

	Apps, Tasks       Step     // of the source, now and when it is accepted
	Missing           []string // apps that are missing without explanation, sorted
	MissingTasks      int
	ServedFrom        time.Time // when the state that is served was read
	Served, Suspected []*signalbox.Service
}

// Step is a number before and after.
type Step struct{ Before, After int }

// Quarantines returns what is held back, in the order of the sources.
func (w *Watcher) Quarantines() []Quarantine {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Quarantine
	for _, s := range w.slots {
		if s.held == nil {
			continue
		}
		q := Quarantine{
			Source: s.source.Name(), Since: s.held.since, Reads: s.held.reads, Needed: w.cfg.Guard.Reads, Span: w.cfg.Guard.Span,
			MissingTasks: len(s.held.missing.tasks), ServedFrom: s.goodAt, Served: s.good, Suspected: s.latest,
		}
		for app := range s.held.missing.apps {
			q.Missing = append(q.Missing, app)
		}
		slices.Sort(q.Missing)
		q.Apps.Before, q.Tasks.Before = (&signalbox.Table{Services: s.good}).Counts()
		q.Apps.After, q.Tasks.After = (&signalbox.Table{Services: s.latest}).Counts()
		out = append(out, q)
	}
	return out
}

// acceptance is an operator's order to let pass what is held back of a source since a moment.
type acceptance struct {
	slot  *slot
	since time.Time
	by    string
	done  chan error // capacity 1
}

// Accept lets the state of a source that is held back since a moment, as Quarantines says, pass. It is for an operator, by, who knows
// that the shrink is real. Its error is ErrNoSource, ErrNothingHeld, or ErrMoved when another shrink is held back by now.
func (w *Watcher) Accept(ctx context.Context, source string, since time.Time, by string) error {
	i := slices.IndexFunc(w.slots, func(s *slot) bool { return s.source.Name() == source })
	if i < 0 {
		return fmt.Errorf("%w: %q", ErrNoSource, source)
	}
	a := acceptance{slot: w.slots[i], since: since, by: by, done: make(chan error, 1)}
	select {
	case w.accept <- a:
		return <-a.done
	case <-ctx.Done():
		return fmt.Errorf("waiting for the watcher: %w", ctx.Err())
	}
}

// acceptSlot carries an acceptance out, and reports whether what is served changed.
func (w *Watcher) acceptSlot(a acceptance) (changed bool, err error) {
	s := a.slot
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s.held == nil:
		return false, fmt.Errorf("%w of the source %q", ErrNothingHeld, s.source.Name())
	case !s.held.since.Equal(a.since):
		return false, fmt.Errorf("%w: %s", ErrMoved, s.held.missing)
	}
	s.held, s.why = nil, ""
	w.cfg.Log.WithField("source", s.source.Name()).WithField("by", a.by).Warn("an operator accepts the state that was held back")
	return w.serve(s, s.latest, s.problems, time.Now()), nil
}

// maxCauses bounds the text of several causes, in bytes.
const maxCauses = 200

// Causes joins what led to one change: each cause once, the newest last, and "…" where there were more than one can read.
func Causes(before, next string) string {
	const more = "; …"
	switch {
	case before == "":
		return next
	case next == "" || before == next || strings.HasSuffix(before, more) || strings.Contains(before+";", next+";"):
		return before
	case len(before)+len(next) > maxCauses:
		return before + more
	}
	return before + "; " + next
}
