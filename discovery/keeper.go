package discovery

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// keeper writes states off the apply path. Of several states of one source that wait, the newest is written.
type keeper struct {
	store store
	every time.Duration // the shortest time between two writes
	wrote func(source string, bytes int, err error)

	mu   sync.Mutex
	todo map[string]*stored
	wake chan struct{} // capacity 1
	enc  map[string]*encoder
}

func newKeeper(s store, every time.Duration, wrote func(string, int, error)) *keeper {
	return &keeper{
		store: s, every: every, wrote: wrote,
		todo: map[string]*stored{}, enc: map[string]*encoder{}, wake: make(chan struct{}, 1),
	}
}

// put hands over a state to be written soon. It never waits for the disk.
func (k *keeper) put(st *stored) {
	if k.store.dir == "" {
		return
	}
	k.mu.Lock()
	k.todo[st.Source] = st
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// longestPause bounds how old the stored state may get on a slow disk.
const longestPause = 10 * time.Second

// run writes until ctx ends, then writes what is left. What can't be written is tried again. Writes keep a distance of 1,000 times what the last one took, up to
// longestPause, so that a large state costs little of a core, however often it changes.
func (k *keeper) run(ctx context.Context) {
	k.sweep()
	for {
		select {
		case <-ctx.Done():
			k.flush()
			return
		case <-k.wake:
		}
		began := time.Now()
		k.flush()
		pause := time.NewTimer(max(k.every, min(1000*time.Since(began), longestPause)))
		select {
		case <-ctx.Done():
			pause.Stop()
			k.flush()
			return
		case <-pause.C:
		}
	}
}

// sweep removes the temporary files that a killed process left.
func (k *keeper) sweep() {
	if k.store.dir == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(k.store.dir, ".state-*"))
	for _, path := range left {
		os.Remove(path)
	}
}

// again hands a state back that could not be written, unless there is a newer one.
func (k *keeper) again(st *stored) {
	k.mu.Lock()
	_, newer := k.todo[st.Source]
	k.mu.Unlock()
	if !newer {
		k.put(st)
	}
}

func (k *keeper) flush() {
	k.mu.Lock()
	todo := k.todo
	k.todo = map[string]*stored{}
	k.mu.Unlock()
	for name, st := range todo {
		enc := k.enc[name]
		if enc == nil {
			enc = &encoder{}
			k.enc[name] = enc
		}
		b, err := enc.encode(st)
		if err == nil {
			err = k.store.save(name, b)
		}
		if err != nil {
			k.again(st)
		}
		k.wrote(name, len(b), err)
	}
}
