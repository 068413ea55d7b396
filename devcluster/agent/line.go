package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// How a master and the agent on another machine notice that the other is gone: who has nothing to say says so every beat, and a
// line that is silent for several of them is dead.
const (
	beat     = 2 * time.Second
	silence  = 5 * beat
	maxWord  = 8 << 20 // of one JSON object, which may be a list of all tasks
	protocol = "signalbox-agent/1"
)

// word is what an agent on another machine tells its master: one JSON object a line, Tasks first.
type word struct {
	Tasks   *[]Task `json:"tasks,omitempty"` // all that it runs, at the start
	Status  *Status `json:"status,omitempty"`
	Probe   uint64  `json:"probe,omitempty"` // the answer to an order's probe, Message: "" means alive
	Message string  `json:"message,omitempty"`
}

// Task is one task of an agent on another machine, as it tells a master that comes, or comes back.
type Task struct {
	Spec  Spec
	State State
	Since time.Time // that it is in this state
}

// line carries JSON objects both ways between a master and an agent. Its methods may be called at the same time, read excepted.
type line[Out, In any] struct {
	conn net.Conn
	in   *bufio.Reader

	mu     sync.Mutex
	queue  []Out
	closed bool
	more   chan struct{} // one token: there is something to send, or the line is closed
}

func newLine[Out, In any](conn net.Conn, in *bufio.Reader) *line[Out, In] {
	return &line[Out, In]{conn: conn, in: in, more: make(chan struct{}, 1)}
}

// put queues an object and never waits. The queue is bounded by the calls that led to it; a dead line takes none.
func (l *line[Out, In]) put(v Out) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.queue = append(l.queue, v)
	l.wake()
}

// wake has the sender look. The lock is held.
func (l *line[Out, In]) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// close ends both directions; what is queued is lost.
func (l *line[Out, In]) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.queue = true, nil
	l.wake()
	l.conn.Close()
}

// send writes what is queued, and beats, until the line is dead.
func (l *line[Out, In]) send() {
	defer l.close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		text := []byte{'\n'} // a beat
		select {
		case <-tick.C:
		case <-l.more:
			l.mu.Lock()
			batch, closed := l.queue, l.closed
			l.queue = nil
			l.mu.Unlock()
			if closed {
				return
			}
			text = text[:0]
			for _, v := range batch {
				b, err := json.Marshal(v)
				if err != nil {
					return // these types can all be written
				}
				text = append(append(text, b...), '\n')
			}
		}
		l.conn.SetWriteDeadline(time.Now().Add(silence))
		if _, err := l.conn.Write(text); err != nil {
			return
		}
	}
}

// read returns the next object; an error means that the line is dead.
func (l *line[Out, In]) read() (In, error) {
	var v In
	for {
		l.conn.SetReadDeadline(time.Now().Add(silence))
		text, err := readWord(l.in)
		if err != nil {
			return v, err
		}
		if len(text) <= 1 {
			continue
		}
		if err := json.Unmarshal(text, &v); err != nil {
			return v, fmt.Errorf("reading what the other side says: %w", err)
		}
		return v, nil
	}
}

// readWord reads up to the end of a line, of bounded length.
func readWord(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text, nil
		case err != bufio.ErrBufferFull: //nolint:errorlint // bufio returns it as it is
			return nil, err
		case len(text) > maxWord:
			return nil, fmt.Errorf("a word of more than %d bytes: %w", maxWord, io.ErrShortBuffer)
		}
	}
}
