package marathon

import (
	"maps"
	"sync"

	"signalbox"
)

// verdicts remembers the last known health of each task, for the time after a failover in which Marathon knows none. It is safe for
// concurrent use; the zero value is ready.
type verdicts struct {
	mu    sync.RWMutex
	alive map[string]bool
}

// of returns the last verdict on a task.
func (v *verdicts) of(task string) (alive, known bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	alive, known = v.alive[task]
	return alive, known
}

// learn takes the verdicts of one read.
func (v *verdicts) learn(read map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.alive == nil {
		v.alive = map[string]bool{}
	}
	maps.Copy(v.alive, read)
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

// keep forgets the tasks that are in no service any more.
func (v *verdicts) keep(state []*signalbox.Service) {
	present := make(map[string]bool, len(state))
	for _, s := range state {
		for _, e := range s.Endpoints {
			present[e.Task] = true
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.alive, func(task string, _ bool) bool { return !present[task] })
}
