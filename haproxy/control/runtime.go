package control

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"signalbox/haproxy"
)

// Worker identifies one worker process of HAProxy: a pid alone may be reused.
type Worker struct {
	PID     int   `json:"pid"`
	Started int64 `json:"started"` // seconds since 1970
}

// ErrOtherWorker says that another worker answers than the one the commands were meant for. None of them was sent.
var ErrOtherWorker = errors.New("another HAProxy worker answers")

// UnexpectedError is an answer that does not mean success.
type UnexpectedError struct{ Command, Answer string }

// Error names the command and what HAProxy said.
func (e *UnexpectedError) Error() string {
	return fmt.Sprintf("HAProxy answered %q to %q", cut(e.Answer, 200), cut(e.Command, 200))
}

// Runtime speaks to the stats socket of a worker over one kept connection. It is safe for concurrent use; exchanges do not mix.
type Runtime struct {
	path string

	mu     sync.Mutex
	c      *cli
	worker Worker
	info   Info
}

// NewRuntime returns a client for the stats socket at path. It connects at the first exchange.
func NewRuntime(path string) *Runtime { return &Runtime{path: path} }

// Close ends the kept connection. The next exchange makes a new one, perhaps to another worker.
func (r *Runtime) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
}

func (r *Runtime) drop() {
	if r.c != nil {
		r.c.close()
		r.c = nil
	}
}

// Alive reports whether the kept connection still stands. It says false when there is none.
func (r *Runtime) Alive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c != nil && !r.c.alive() {
		r.drop()
	}
	return r.c != nil
}

// Connect makes sure that there is a connection and returns what the worker at its other end said about itself then.
func (r *Runtime) Connect(ctx context.Context) (Info, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connect(ctx); err != nil {
		return Info{}, err
	}
	return r.info, nil
}

func (r *Runtime) connect(ctx context.Context) error {
	if r.c != nil && r.c.alive() {
		return nil
	}
	r.drop()
	c, err := dialCLI(ctx, r.path, workerPrompt)
	if err != nil {
		return fmt.Errorf("connecting to HAProxy's runtime socket: %w", err)
	}
	// The socket's own idle timeout is 10 s; a kept connection needs a longer one.
	answers, err := c.do(ctx, "set timeout cli 86400", "show info")
	if err == nil && answers[0] != "" {
		err = &UnexpectedError{"set timeout cli 86400", answers[0]}
	}
	var info Info
	if err == nil {
		info, err = ParseInfo(answers[1])
	}
	if err != nil {
		c.close()
		return fmt.Errorf("connecting to HAProxy's runtime socket: %w", err)
	}
	info.At = thisMoment()
	r.c, r.info, r.worker = c, info, info.Worker()
	return nil
}

// Do sends commands to whichever worker answers and returns their raw answers.
func (r *Runtime) Do(ctx context.Context, commands ...string) ([]string, error) {
	return r.exchange(ctx, Worker{}, commands, nil)
}

// Batch sends commands to the worker w and checks each answer. It returns how many were accepted before the first that was not: few
// that follow it are sent, and no "commit map". The error is ErrOtherWorker when another worker answers, an *UnexpectedError for an
// answer that is not success, or that of the connection; then the state of w is unknown for the rest.
func (r *Runtime) Batch(ctx context.Context, w Worker, commands []string) (accepted int, err error) {
	answers, err := r.exchange(ctx, w, commands, expected)
	for i, a := range answers {
		if !expected(commands[i], a) {
			return i, &UnexpectedError{commands[i], a}
		}
	}
	return len(answers), err
}

// exchange sends commands and returns their answers. With good, it ends soon after an answer that is not, and then without an error.
func (r *Runtime) exchange(ctx context.Context, w Worker, commands []string, good func(command, answer string) bool) ([]string, error) {
	for _, c := range commands {
		if err := validCommand(c); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	if w != (Worker{}) && r.worker != w {
		return nil, fmt.Errorf("%w: pid %d instead of %d", ErrOtherWorker, r.worker.PID, w.PID)
	}
	if good == nil {
		good = func(string, string) bool { return true }
	}
	var answers []string
	for len(commands) > 0 {
		n := together(commands)
		part, err := r.c.doWhile(ctx, commands[:n], good)
		answers = append(answers, part...)
		if err != nil {
			r.drop()
			return answers, fmt.Errorf("commanding HAProxy: %w", err)
		}
		for i, a := range part {
			if !good(commands[i], a) {
				return answers, nil
			}
		}
		if commands = commands[n:]; len(commands) > 0 {
			commands = withVersion(commands, part[n-1])
		}
	}
	return answers, nil
}

// together returns how many commands can be sent before the answers to them are needed: up to a "prepare map", whose answer the next
// ones hold, and up to before a "commit map", which follows only if all is well.
func together(commands []string) int {
	for i, c := range commands {
		switch {
		case strings.HasPrefix(c, "prepare map "):
			return i + 1
		case i > 0 && strings.HasPrefix(c, "commit map "):
			return i
		}
	}
	return len(commands)
}

var newVersion = regexp.MustCompile(`^New version created: (\d+)$`)

// withVersion puts the version of a prepared map in the place of haproxy.MapVersion, up to the next "prepare map".
func withVersion(commands []string, answer string) []string {
	m := newVersion.FindStringSubmatch(answer)
	if m == nil {
		return commands
	}
	out := make([]string, len(commands))
	for i, c := range commands {
		if strings.HasPrefix(c, "prepare map ") {
			copy(out[i:], commands[i:])
			break
		}
		words := strings.Split(c, " ")
		for j, w := range words {
			if w == haproxy.MapVersion && j == 2 {
				words[j] = "@" + m[1]
			}
		}
		out[i] = strings.Join(words, " ")
	}
	return out
}

// addrAnswer is each form in which HAProxy says that "set server … addr" is done: changed or already so, address and port. From 3.0 on
// it passes over what is already so.
var addrAnswer = regexp.MustCompile(`^(((IP changed from '[^']*' to '[^']*'|no need to change the addr)` +
	`(, (port changed from '[^']*' to '[^']*'|no need to change the port))?|port changed from '[^']*' to '[^']*')` +
	` by 'stats socket command'|nothing changed)$`)

// expected reports whether an answer to a command that changes something means that it is done.
func expected(command, answer string) bool {
	words := strings.Fields(command)
	switch {
	case len(words) > 3 && words[0] == "set" && words[1] == "server" && words[3] == "addr":
		return addrAnswer.MatchString(answer)
	case len(words) > 1 && words[0] == "add" && words[1] == "server":
		return answer == "New server registered."
	case len(words) > 1 && words[0] == "prepare" && words[1] == "map":
		return newVersion.MatchString(answer)
	default:
		return answer == ""
	}
}

// Info asks the worker for its figures.
func (r *Runtime) Info(ctx context.Context) (Info, error) {
	return ask(ctx, r, "show info", ParseInfo)
}

// Servers asks for the state of every server.
func (r *Runtime) Servers(ctx context.Context) ([]ServerState, error) {
	return ask(ctx, r, "show servers state", ParseServersState)
}

// Map asks for the entries of the map file at path.
func (r *Runtime) Map(ctx context.Context, path string) ([]MapLine, error) {
	return ask(ctx, r, "show map "+path, ParseMap)
}

// Stat asks for the counters of every frontend, backend and server.
func (r *Runtime) Stat(ctx context.Context) ([]Stat, error) {
	return ask(ctx, r, "show stat", ParseStat)
}

func ask[T any](ctx context.Context, r *Runtime, command string, parse func(string) (T, error)) (T, error) {
	var zero T
	answers, err := r.Do(ctx, command)
	if err != nil {
		return zero, err
	}
	v, err := parse(answers[0])
	if err != nil {
		return zero, fmt.Errorf("reading the answer to %q: %w", command, err)
	}
	return v, nil
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
