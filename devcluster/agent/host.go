package agent

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Host runs tasks on this machine for a master on another: an http.Handler that a Remote asks for a session. One master has it
// at a time, and the last to come is the one. Tasks live on without a master, until one comes and knows what to do with them;
// they end when this process does.
type Host struct {
	agent *Processes
	token string
	log   logrus.FieldLogger
	ctx   context.Context
	end   context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	tasks   map[string]*Task
	master  *line[word, order]
	closing bool
}

// NewHost starts the agent of a machine. Every master must show the token, unless it is empty.
func NewHost(cfg Config, token string) (*Host, error) {
	h := &Host{token: token, tasks: map[string]*Task{}}
	var err error
	if h.agent, err = NewProcesses(cfg, h.report); err != nil {
		return nil, err
	}
	h.log = h.agent.cfg.Log
	h.ctx, h.end = context.WithCancel(context.Background())
	return h, nil
}

// report keeps what a task has become, and tells the master of it.
func (h *Host) report(st Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tasks[st.TaskID]; t != nil {
		t.State, t.Since = st.State, st.At
		if st.State != Starting && st.State != Running {
			delete(h.tasks, st.TaskID)
		}
	}
	h.tell(word{Status: &st})
}

// tell says something to the master, if there is one. The lock is held.
func (h *Host) tell(w word) {
	if h.master != nil {
		h.master.put(w)
	}
}

// ServeHTTP answers /health to everybody, and gives a master that shows the token its session.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" {
		fmt.Fprintln(w, "ok")
		return
	}
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case h.token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(h.token)) != 1:
		http.Error(w, "the token is missing or wrong", http.StatusUnauthorized)
	case r.URL.Path != "/session" || r.Method != http.MethodPost:
		http.Error(w, "a master asks for POST /session", http.StatusNotFound)
	case r.Header.Get("Upgrade") != protocol:
		w.Header().Set("Upgrade", protocol)
		http.Error(w, "this agent speaks "+protocol, http.StatusUpgradeRequired)
	default:
		h.session(w, r)
	}
}

func (h *Host) session(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no session on this connection: "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(silence))
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol); err != nil {
		return
	}
	conn.SetDeadline(time.Time{})
	l := newLine[word, order](conn, buffered.Reader)
	if !h.welcome(l) {
		return
	}
	h.log.WithField("master", r.RemoteAddr).Info("a master has come")
	var sending sync.WaitGroup
	sending.Go(l.send)
	for err == nil {
		var o order
		if o, err = l.read(); err == nil {
			h.obey(l, o)
		}
	}
	l.close()
	sending.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.master == l {
		h.master = nil
		h.log.WithField("master", r.RemoteAddr).WithError(err).Warn("the master is gone; its tasks run on")
	}
}

// welcome makes l the master's line, in place of any other, and tells it what runs.
func (h *Host) welcome(l *line[word, order]) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	if h.master != nil {
		h.master.close()
	}
	h.master = l
	h.work.Add(1)
	defer h.work.Done()
	tasks := []Task{}
	for _, id := range slices.Sorted(maps.Keys(h.tasks)) {
		tasks = append(tasks, *h.tasks[id])
	}
	l.put(word{Tasks: &tasks})
	return true
}

// obey carries out an order. One of a master that another has replaced is not heard.
func (h *Host) obey(l *line[word, order], o order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.master != l || h.closing {
		return
	}
	switch o.Do {
	case doLaunch:
		if o.Spec != nil {
			h.launch(*o.Spec)
		}
	case doKill:
		h.agent.Kill(o.Task, o.Grace)
	case doProbe:
		h.work.Go(func() {
			ctx, cancel := context.WithTimeout(h.ctx, o.Grace)
			defer cancel()
			message := ""
			if err := h.agent.Probe(ctx, o.Task, Probe{Kind: ProbeCommand, Command: o.Shell}); err != nil {
				message = err.Error()
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.tell(word{Probe: o.Probe, Message: message})
		})
	}
}

// launch starts a task with this machine's own PATH and the like, which its master can't know. The lock is held.
func (h *Host) launch(spec Spec) {
	env := spec.Env
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR"} {
		given := slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		if v, ok := os.LookupEnv(name); ok && !given {
			spec.Env = append(slices.Clip(spec.Env), name+"="+v)
		}
	}
	if h.tasks[spec.ID] != nil {
		return
	}
	h.tasks[spec.ID] = &Task{Spec: spec, State: Starting, Since: time.Now()}
	if err := h.agent.Launch(spec); err != nil {
		delete(h.tasks, spec.ID)
		h.tell(word{Status: &Status{TaskID: spec.ID, State: Failed, Message: err.Error(), At: time.Now()}})
	}
}

// Tasks returns how many tasks have not ended.
func (h *Host) Tasks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tasks)
}

// Close ends the session and every task.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closing = true
	if h.master != nil {
		h.master.close()
	}
	h.mu.Unlock()
	h.end()
	err := h.agent.Close()
	h.work.Wait()
	if err != nil {
		return errors.Join(errors.New("closing the agent"), err)
	}
	return nil
}
