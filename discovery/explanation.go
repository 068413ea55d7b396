package discovery

import (
	"slices"
	"time"

	"signalbox"
)

// explainedFor is how long a source's explanation of an absence stands: a deployment may take its time.
const explainedFor = 10 * time.Minute

// maxExplained bounds how many explanations are remembered.
const maxExplained = 200_000

// explanations remembers which apps and tasks may be missing, and until when. The zero value is ready.
type explanations struct {
	apps, tasks, proven map[string]time.Time
	now                 time.Time // of the newest addition
	sweepAt             int
}

// add takes what a source has explained. now does not go backwards.
func (x *explanations) add(e Explained, now time.Time) {
	x.now = now
	if x.apps == nil {
		x.apps, x.tasks, x.proven, x.sweepAt = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}, 1024
	}
	for _, one := range []struct {
		what map[string]bool
		to   map[string]time.Time
	}{{e.Apps, x.apps}, {e.Tasks, x.tasks}, {e.Proven, x.proven}} {
		for k, ok := range one.what {
			if ok {
				one.to[k] = now.Add(explainedFor)
			}
		}
	}
	if len(x.apps)+len(x.tasks)+len(x.proven) > x.sweepAt {
		x.sweep(now)
	}
}

func (x *explanations) sweep(now time.Time) {
	for _, m := range []map[string]time.Time{x.apps, x.tasks, x.proven} {
		for k, until := range m {
			if now.After(until) || len(m) > maxExplained {
				delete(m, k)
			}
		}
	}
	x.sweepAt = max(1024, 2*(len(x.apps)+len(x.tasks)+len(x.proven)))
}

// spend forgets the explanations of apps that from has and to lacks: they were for that absence. An app that comes again under the same
// id can be missed again.
func (x *explanations) spend(from, to []*signalbox.Service) {
	if len(x.apps)+len(x.proven) == 0 {
		return
	}
	var gone []string
	signalbox.Walk(from, to, func(a, b *signalbox.Service) {
		if b == nil {
			gone = append(gone, a.App)
		}
	})
	for _, app := range gone {
		if !slices.ContainsFunc(to, func(s *signalbox.Service) bool { return s.App == app }) {
			delete(x.apps, app)
			delete(x.proven, app)
		}
	}
}

// of returns what explains the absences of a state: where nothing is left, only what is proven.
func (x *explanations) of(state []*signalbox.Service) func(app, task string) bool {
	if len(state) > 0 {
		return x.has
	}
	return func(app, _ string) bool { return x.stands(x.proven, app) }
}

// has reports whether the absence of a task of an app, or with task "" of the app itself, is explained.
func (x *explanations) has(app, task string) bool {
	return x.stands(x.apps, app) || task != "" && x.stands(x.tasks, task)
}

func (x *explanations) stands(in map[string]time.Time, name string) bool {
	until, ok := in[name]
	return ok && !x.now.After(until)
}
