package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Master hears of the agent on another machine. Its methods are called from one goroutine of the agent's own, one after the
// other, and never from within Launch or Kill: they may take locks that are held during both.
type Master interface {
	// Joined says that the agent is reached, and all that it runs. Tasks that were launched and are not there have ended.
	Joined(tasks []Task)
	// Left says that it is reached no more. Its tasks run on, as far as anybody knows; until Joined nothing can be launched.
	Left()
	// Report is a status as any agent's.
	Report(st Status)
}

// RemoteConfig says where the agent on another machine is.
type RemoteConfig struct {
	URL   string      // http://host:port or https://host:port of a Host
	Token string      // that it asks for
	TLS   *tls.Config // for https; nil trusts what the system does
	Log   logrus.FieldLogger
}

// Remote is the Agent of another machine, where a Host runs the tasks. It looks for the Host until Close.
type Remote struct {
	cfg    RemoteConfig
	url    *url.URL
	master Master
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	line   *line[order, word] // nil: the agent is not reached
	addrs  map[string]string  // of the tasks
	probes map[uint64]chan string
	last   uint64
}

const lookAgain = time.Second // for a host that was not reached

var errUnreachable = errors.New("the agent is not reached")

// NewRemote returns at once, whether or not the agent is there.
func NewRemote(cfg RemoteConfig, m Master) (*Remote, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("agent %q: it is not of the form http://host:5051 or https://host:5051", cfg.URL)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Remote{cfg: cfg, url: u, master: m, cancel: cancel, done: make(chan struct{}), addrs: map[string]string{}, probes: map[uint64]chan string{}}
	go r.run(ctx)
	return r, nil
}

func (r *Remote) run(ctx context.Context) {
	defer close(r.done)
	said := ""
	for ctx.Err() == nil {
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said { // one line for each trouble, not one a second
			said = err.Error()
			r.cfg.Log.WithField("agent", r.cfg.URL).WithError(err).Warn("the agent is not reached")
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
}

// session holds one session with the host until it breaks.
func (r *Remote) session(ctx context.Context) error {
	conn, in, err := r.call(ctx)
	if err != nil {
		return err
	}
	l := newLine[order, word](conn, in)
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	var sending sync.WaitGroup
	sending.Go(l.send)
	defer sending.Wait()
	defer l.close()
	first, err := l.read()
	if err != nil {
		return fmt.Errorf("waiting for the agent's tasks: %w", err)
	}
	if first.Tasks == nil {
		return errors.New("the agent does not begin with its tasks")
	}
	r.join(l, *first.Tasks)
	r.master.Joined(*first.Tasks)
	r.cfg.Log.WithField("agent", r.cfg.URL).WithField("tasks", len(*first.Tasks)).Info("the agent has joined")
	for {
		w, err := l.read()
		if err != nil {
			r.part()
			if ctx.Err() == nil {
				r.master.Left()
			}
			return fmt.Errorf("hearing the agent: %w", err)
		}
		r.hear(w)
	}
}

// call connects to the host and asks for a session.
func (r *Remote) call(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var conn net.Conn
	var err error
	if r.url.Scheme == "https" {
		cfg := r.cfg.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		cfg.NextProtos = []string{"http/1.1"} // a connection of HTTP/2 can't change its protocol
		conn, err = (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", r.url.Host)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", r.url.Host)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to the agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	in, err := r.ask(conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("asking the agent for a session: %w", err)
	}
	return conn, in, nil
}

func (r *Remote) ask(conn net.Conn) (*bufio.Reader, error) {
	req, err := http.NewRequest(http.MethodPost, r.cfg.URL+"/session", http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	if r.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.cfg.Token)
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // it only explains the status
		resp.Body.Close()
		return nil, fmt.Errorf("it answered %s: %s", resp.Status, why)
	}
	return in, nil
}

func (r *Remote) join(l *line[order, word], tasks []Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = l
	clear(r.addrs)
	for _, t := range tasks {
		r.addrs[t.Spec.ID] = t.Spec.Addr
	}
}

// part forgets a session that broke.
func (r *Remote) part() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = nil
	for n, answer := range r.probes {
		answer <- errUnreachable.Error()
		delete(r.probes, n)
	}
}

func (r *Remote) hear(w word) {
	if w.Status != nil {
		if s := w.Status.State; s != Starting && s != Running {
			r.mu.Lock()
			delete(r.addrs, w.Status.TaskID)
			r.mu.Unlock()
		}
		r.master.Report(*w.Status)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if answer := r.probes[w.Probe]; answer != nil {
		answer <- w.Message
		delete(r.probes, w.Probe)
	}
}

// Launch implements Agent.
func (r *Remote) Launch(spec Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line == nil {
		return fmt.Errorf("launching %s: %w", spec.ID, errUnreachable)
	}
	r.addrs[spec.ID] = spec.Addr
	r.line.put(order{Do: doLaunch, Task: spec.ID, Spec: &spec})
	return nil
}

// Kill implements Agent. A task of an agent that is not reached is killed by who finds it among those that Joined names.
func (r *Remote) Kill(taskID string, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil {
		r.line.put(order{Do: doKill, Task: taskID, Grace: max(0, grace)})
	}
}

// Probe implements Agent: what goes over the network is asked from here, as Marathon does, a command is run beside the task.
func (r *Remote) Probe(ctx context.Context, taskID string, p Probe) error {
	r.mu.Lock()
	addr, known := r.addrs[taskID]
	if !known {
		r.mu.Unlock()
		return fmt.Errorf("probing %s: the task does not run", taskID)
	}
	if p.Kind != ProbeCommand {
		r.mu.Unlock()
		return probeNetwork(ctx, addr, p)
	}
	if r.line == nil {
		r.mu.Unlock()
		return fmt.Errorf("probing %s: %w", taskID, errUnreachable)
	}
	limit := commandLimit(ctx)
	answer := make(chan string, 1)
	r.last++
	n := r.last
	r.probes[n] = answer
	r.line.put(order{Do: doProbe, Task: taskID, Probe: n, Shell: p.Command, Grace: limit})
	r.mu.Unlock()
	return verdict(ctx, answer, nil, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.probes, n)
	})
}

// Close implements Agent, but for one thing: the tasks run on, for the master that comes next.
func (r *Remote) Close() error {
	r.cancel()
	<-r.done
	return nil
}
