package main

import (
	"fmt"
	"slices"

	"signalbox"
	"signalbox/admin"
)

// history returns the changes that a question chooses, oldest first, and the generation that runs.
func (r *register) history(q admin.HistoryQuestion) ([]admin.Change, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []admin.Change{}
	for _, e := range r.entries {
		if q.Generation != 0 && e.Generation != q.Generation || q.App != "" && !slices.Contains(e.Apps, q.App) || q.Definitions && !e.Definitions {
			continue
		}
		out = append(out, e.Change)
	}
	if q.App == "" && !q.Definitions {
		out = out[max(0, len(out)-keptChanges):]
	}
	return out, r.running
}

// resumed says from which generation this run goes on.
func (r *register) resumed(generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = max(r.running, generation)
}

// generation returns the one that runs.
func (r *register) generation() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// stored returns what was held when the last run ended, and the definitions that were in force, nil for none.
func (r *register) stored() ([]signalbox.Hold, *signalbox.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.holds), r.defs
}

// earlier is an earlier generation, as far as it is known.
type earlier struct {
	generation  uint64
	made        *admin.Change    // what led to it, nil: it is not kept
	definitions *signalbox.Table // that it had
	undone      []admin.Change   // of those that changed definitions since, oldest first
}

// earlier returns a generation of before; 0 is that before the last change of the definitions of an app, or of any with "". Its error
// is admin.ErrConflict.
func (r *register) earlier(generation uint64, app string) (earlier, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation == 0 {
		last := slices.IndexFunc(reversed(r.entries), func(e *entry) bool { return e.defines(app) })
		if last < 0 {
			what := "definitions"
			if app != "" {
				what += " of " + app
			}
			return earlier{}, fmt.Errorf("%w: no change of %s is kept, so there is no earlier generation to go back to", admin.ErrConflict, what)
		}
		next := len(r.entries) - 1 - last
		generation = max(r.entries[next].Generation, 1) - 1
		for i := next - 1; i >= 0; i-- {
			if e := r.entries[i]; e.made {
				generation = e.Generation
				break
			}
		}
		return r.before(next, generation)
	}
	if generation > r.running {
		return earlier{}, fmt.Errorf("%w: generation %d is yet to come; %d runs", admin.ErrConflict, generation, r.running)
	}
	next := len(r.entries) // the first entry after it
	for next > 0 && (!r.entries[next-1].made || r.entries[next-1].Generation > generation) {
		next--
	}
	return r.before(next, generation)
}

// before returns a generation, which is that before an entry, by its index. The caller holds the lock.
func (r *register) before(next int, generation uint64) (earlier, error) {
	out := earlier{generation: generation, definitions: r.defs}
	for i := next - 1; i >= 0; i-- {
		if e := r.entries[i]; e.made {
			if e.Generation == generation {
				change := e.Change
				out.made = &change
			}
			break
		}
	}
	if out.generation == 0 || out.generation < r.floor {
		return earlier{}, fmt.Errorf("%w: the definitions of a generation that old are not kept (signalbox history --definitions lists those that are)", admin.ErrConflict)
	}
	for _, e := range slices.Backward(r.entries[next:]) {
		if !e.Definitions {
			continue
		}
		out.undone = append(out.undone, e.Change)
		var before []*signalbox.Service
		for _, u := range e.undo {
			if u.Before == nil {
				before = append(before, gone(u.ID))
			} else {
				before = append(before, u.Before)
			}
		}
		out.definitions = defined(out.definitions, before)
	}
	slices.Reverse(out.undone)
	return out, nil
}

// defines reports whether a change replaced or took away a definition of an app; with "" whether it touched any.
func (e *entry) defines(app string) bool {
	if app == "" {
		return len(e.undo) > 0
	}
	return slices.ContainsFunc(e.undo, func(u undo) bool { return u.App == app && u.Before != nil })
}

func reversed[T any](list []T) []T {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}
