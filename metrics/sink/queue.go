package sink

import (
	"slices"
	"sync"
)

// frame is what goes to a server in one piece: a datagram, a message, some lines.
type frame struct {
	data   []byte
	points int
}

// queue keeps frames until they are settled. Its bytes are bounded: what is too much is dropped, the oldest first, except what is on
// its way just now. It is safe for concurrent use.
type queue struct {
	limit int // bytes
	ready chan struct{}

	mu       sync.Mutex
	frames   []frame
	inFlight int // of the first frames
	bytes    int
	points   int
}

func newQueue(limit int) *queue { return &queue{limit: limit, ready: make(chan struct{}, 1)} }

// push adds frames, and returns how many points were dropped for them.
func (q *queue) push(frames []frame) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range frames {
		q.bytes += len(f.data)
		q.points += f.points
	}
	q.frames = append(q.frames, frames...)
	cut := q.inFlight
	for q.bytes > q.limit && cut < len(q.frames) {
		q.bytes -= len(q.frames[cut].data)
		q.points -= q.frames[cut].points
		dropped += q.frames[cut].points
		cut++
	}
	q.frames = slices.Delete(q.frames, q.inFlight, cut)
	if len(q.frames) > 0 {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
	return dropped
}

// take returns the oldest frames, up to so many bytes but one at least. They stay until they are settled or given back.
func (q *queue) take(most int) []frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for size := 0; n < len(q.frames) && (n == 0 || size+len(q.frames[n].data) <= most); n++ {
		size += len(q.frames[n].data)
	}
	q.inFlight = n
	return slices.Clone(q.frames[:n])
}

// settle forgets the oldest frame, which was taken, and returns how many points it had.
func (q *queue) settle() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.frames[0]
	q.frames = slices.Delete(q.frames, 0, 1)
	q.inFlight--
	q.bytes -= len(f.data)
	q.points -= f.points
	return f.points
}

// giveBack says that nothing is on its way any more.
func (q *queue) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight = 0
}

// length returns how many points and bytes wait.
func (q *queue) length() (points, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.points, q.bytes
}

// empty forgets everything, and returns how many points that was.
func (q *queue) empty() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.points
	q.frames, q.bytes, q.points, q.inFlight = nil, 0, 0, 0
	return n
}
