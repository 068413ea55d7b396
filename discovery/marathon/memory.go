package marathon

import (
	"maps"
	"sync"
	"time"

	"signalbox"
)

// verdictsKept is for how long a verdict outlives the last read that had its task: a Marathon that has just failed over may list less
// than there is.
const verdictsKept = 15 * time.Minute

// verdicts remembers the last known health of each task, for the time after a failover in which Marathon knows none. It is safe for
// concurrent use; the zero value is ready.
type verdicts struct {
	mu    sync.RWMutex
	alive map[string]verdict
}

type verdict struct {
	alive bool
	seen  time.Time // when its task was last there
}

// of returns the last verdict on a task.
func (v *verdicts) of(task string) (alive, known bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	got, known := v.alive[task]
	return got.alive, known
}

// learn takes the verdicts of one read.
func (v *verdicts) learn(read map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.alive == nil {
		v.alive = map[string]verdict{}
	}
	now := time.Now()
	for task, alive := range read {
		v.alive[task] = verdict{alive, now}
	}
}

// seed takes the verdicts that a stored state holds. States that say nothing about health leave none.
func (v *verdicts) seed(state []*signalbox.Service) {
	read := map[string]bool{}
	for _, s := range state {
		for _, e := range s.Endpoints {
			switch e.State {
			case signalbox.Up:
				read[e.Task] = true
			case signalbox.Down:
				read[e.Task] = false
			}
		}
	}
	v.learn(read)
}

// keep forgets the tasks that have been in no service for long.
func (v *verdicts) keep(state []*signalbox.Service) {
	present := make(map[string]bool, len(state))
	for _, s := range state {
		for _, e := range s.Endpoints {
			present[e.Task] = true
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(v.alive, func(task string, got verdict) bool { return !present[task] && now.Sub(got.seen) > verdictsKept })
	for task := range present {
		if got, ok := v.alive[task]; ok {
			v.alive[task] = verdict{got.alive, now}
		}
	}
}
