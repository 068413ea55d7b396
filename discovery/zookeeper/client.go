package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"

	"signalbox/discovery"
)

// Client keeps a session with an ensemble, one after the other. It is safe for concurrent use, but Run runs once at a time.
type Client struct {
	cfg Config
	log logrus.FieldLogger

	mu     sync.Mutex
	status Status
	logged string
	at     time.Time // when that was
}

// Status is how a client fares.
type Status struct {
	Server    string    // with which a session stands, "" without one
	Since     time.Time // the session stands, or there is none
	Err       string    // why there is no session, "" with one
	Sessions  uint64    // begun
	Lost      uint64    // by a connection that broke, or a server that was silent
	Failures  uint64    // connections and beginnings of sessions that failed
	Forbidden uint64    // credentials that were refused
}

// Dial returns a client, or says what is wrong with cfg. It sends nothing before Run.
func Dial(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, log: discovery.LoggerOr(cfg.Log), status: Status{Since: time.Now(), Err: "not asked yet"}}, nil
}

// Status returns how the client fares now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// The waits between two sessions, each drawn evenly from nothing to it: machines that lose a server at once do not come back at once.
const (
	firstWait = 250 * time.Millisecond // for another server
	lastWait  = 2 * time.Second        // when none has answered, several times
	steady    = 10 * time.Second       // a session of that length is no failure
)

// Run begins a session, calls use with it, and begins another when it has ended, until ctx ends. The context of use ends with the session:
// on a broken connection, a silent server, an expired session. A session is never carried over to another connection, so use reads
// everything anew and sets its watches anew; ephemeral nodes of a lost session stand until the ensemble expires it. That is also what lets it
// return to an ensemble whose data was wiped, which refuses a client that remembers more than there is. When use returns earlier the session
// is closed. Run returns after use has.
func (c *Client) Run(ctx context.Context, use func(ctx context.Context, conn *zk.Conn)) {
	servers := rand.Perm(len(c.cfg.Servers))
	var closing sync.WaitGroup
	defer closing.Wait()
	for turn, failures := 0, 0; ctx.Err() == nil; turn++ {
		began := time.Now()
		stood := c.once(ctx, c.cfg.Servers[servers[turn%len(servers)]], use, &closing)
		if failures++; stood && time.Since(began) > steady {
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(wait(failures, len(servers)))):
		}
	}
}

// wait returns the longest wait after so many failures in a row.
func wait(failures, servers int) time.Duration {
	return min(firstWait<<min(failures/servers, 8), lastWait)
}

// once runs one session with one server, and reports whether it stood. What is left of the closing is waited for in closing.
func (c *Client) once(ctx context.Context, server string, use func(context.Context, *zk.Conn), closing *sync.WaitGroup) bool {
	secure, err := c.cfg.tlsConfig()
	if err != nil {
		c.failed(server, err, false)
		return false
	}
	session, end := context.WithCancel(ctx)
	defer end()
	stands, lost := make(chan struct{}, 1), make(chan struct{}, 1)
	l := &line{ctx: session, server: server, tls: secure, max: c.cfg.MaxMessage, broken: func() { signal(lost) }}
	heard := func(e zk.Event) {
		if e.Type != zk.EventSession {
			return
		}
		switch e.State {
		case zk.StateHasSession:
			signal(stands)
		case zk.StateDisconnected, zk.StateExpired:
			signal(lost)
			end()
		}
	}
	conn, events, err := zk.Connect([]string{server}, c.cfg.Session, zk.WithHostProvider(l), zk.WithDialer(l.dial), zk.WithEventCallback(heard),
		zk.WithMaxBufferSize(c.cfg.MaxMessage), zk.WithMaxConnBufferSize(c.cfg.MaxMessage), zk.WithLogInfo(false), zk.WithLogger(quiet{c.log}))
	if err != nil {
		c.failed(server, err, false)
		return false
	}
	defer closing.Go(func() {
		conn.Close() // says so to the server while there is a connection, within a second
		l.cut()
		for range events { // until the library has ended
		}
	})
	patience := time.NewTimer(dialWithin + greetWithin + time.Second)
	defer patience.Stop()
	select {
	case <-stands:
	case <-lost:
		if err = l.failure(); err == nil {
			err = errors.New("it gives no session: it has no leader, or is no ZooKeeper")
		}
	case <-patience.C:
		err = errors.New("no session within " + (dialWithin + greetWithin).String())
	case <-ctx.Done():
		return false
	}
	if err == nil {
		err = c.authenticate(conn)
	}
	if err != nil {
		c.failed(server, err, errors.Is(err, zk.ErrAuthFailed))
		return false
	}
	c.began(server)
	use(session, conn)
	if ctx.Err() == nil && session.Err() != nil {
		c.lost(server)
	}
	return true
}

func (c *Client) authenticate(conn *zk.Conn) error {
	digest, err := c.cfg.digest()
	if err != nil || digest == nil {
		return err
	}
	if err := conn.AddAuth("digest", digest); err != nil {
		return fmt.Errorf("authenticating: %w", err)
	}
	return nil
}

func (c *Client) began(server string) {
	c.mu.Lock()
	c.status.Server, c.status.Since, c.status.Err = server, time.Now(), ""
	c.status.Sessions++
	c.logged = ""
	c.mu.Unlock()
	c.log.WithField("server", server).Info("a session with ZooKeeper stands")
}

func (c *Client) lost(server string) {
	c.mu.Lock()
	c.status.Server, c.status.Since, c.status.Err = "", time.Now(), "the session with "+server+" was lost"
	c.status.Lost++
	c.mu.Unlock()
	c.log.WithField("server", server).Warn("the session with ZooKeeper is lost")
}

// failed notes a failure, and logs it unless the same was logged within a minute.
func (c *Client) failed(server string, err error, forbidden bool) {
	c.mu.Lock()
	if c.status.Server != "" {
		c.status.Server, c.status.Since = "", time.Now()
	}
	c.status.Err = server + ": " + err.Error()
	c.status.Failures++
	if forbidden {
		c.status.Forbidden++
	}
	again := c.logged == err.Error() && time.Since(c.at) < time.Minute
	if !again {
		c.logged, c.at = err.Error(), time.Now()
	}
	c.mu.Unlock()
	if !again {
		c.log.WithError(err).WithField("server", server).Warn("ZooKeeper gives no session; what was known stands")
	}
}

// signal wakes who waits, once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// quiet takes what the library prints. What matters of it stands in Status.
type quiet struct{ log logrus.FieldLogger }

// Printf implements zk.Logger.
func (q quiet) Printf(format string, args ...any) { q.log.Debugf("zookeeper: "+format, args...) }
