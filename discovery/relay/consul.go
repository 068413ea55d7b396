package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"signalbox/discovery"
)

// ConsulConfig configures a store in Consul's keys and values.
type ConsulConfig struct {
	// URLs are those of this machine's agent, or of several servers of one cluster. At least one.
	URLs []string
	// Prefix is the folder of the keys, without slashes at its ends.
	Prefix string
	// TokenFile holds an ACL token, and is read anew for each request. CAFile holds the certificates that may sign Consul's; "" takes
	// the system's.
	TokenFile, CAFile string
	Datacenter        string        // "": the agent's own
	TTL               time.Duration // after which a leader that is silent is none; default 10 s, the least that Consul takes
}

// The bounds of what is asked of Consul.
const (
	consulChunk   = 360 << 10 // base64 in a transaction makes 480 KiB of it; Consul takes 512
	consulWait    = 10 * time.Second
	consulTimeout = 5 * time.Second
	consulStale   = 5 * time.Second
)

// ConsulStore is a Store in Consul's keys and values.
type ConsulStore struct {
	cfg     ConsulConfig
	http    *http.Client
	members []*api.Client
	current atomic.Int32
	token   string // the last one that could be read
	mu      sync.Mutex
}

var _ Store = (*ConsulStore)(nil)

// NewConsulStore returns a store, or says what is wrong with cfg. It sends nothing.
func NewConsulStore(cfg ConsulConfig) (*ConsulStore, error) {
	cfg.TTL = cmp.Or(cfg.TTL, 10*time.Second)
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     time.Minute,
	}
	if cfg.CAFile != "" {
		pool, err := discovery.Authorities(cfg.CAFile, "Consul's certificate")
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	s := &ConsulStore{cfg: cfg, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
	}}
	for _, text := range cfg.URLs {
		a, err := api.NewClient(&api.Config{Address: text, HttpClient: s.http})
		if err != nil {
			return nil, fmt.Errorf("making a client of Consul: %w", err)
		}
		s.members = append(s.members, a)
	}
	if len(s.members) == 0 {
		return nil, errors.New("no URL of Consul is given")
	}
	return s, nil
}

// String implements Store.
func (s *ConsulStore) String() string {
	u, err := url.Parse(s.cfg.URLs[s.current.Load()])
	if err != nil {
		return "consul"
	}
	return "consul://" + u.Host + "/" + s.cfg.Prefix
}

// Most implements Store.
func (s *ConsulStore) Most() int { return consulChunk }

// Close implements Store.
func (s *ConsulStore) Close() { s.http.CloseIdleConnections() }

func (s *ConsulStore) key(name string) string { return s.cfg.Prefix + "/" + name }

const headName = "head"

// secret returns the token.
func (s *ConsulStore) secret() string {
	if s.cfg.TokenFile == "" {
		return ""
	}
	b, err := os.ReadFile(s.cfg.TokenFile)
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := strings.TrimSpace(string(b)); err == nil && text != "" {
		s.token = text
	}
	return s.token
}

// asking calls f with the member that answered last, for a while. After an error another member is next.
func (s *ConsulStore) asking(ctx context.Context, what string, most time.Duration, f func(context.Context, *api.Client) error) error {
	at := s.current.Load()
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := f(ctx, s.members[at])
	if err == nil || errors.Is(err, errMissing) || errors.Is(err, errDeposed) || errors.Is(err, errTaken) {
		return err
	}
	s.current.CompareAndSwap(at, (at+1)%int32(len(s.members)))
	return fmt.Errorf("%s in %s: %w", what, s.cfg.Prefix, briefly(err))
}

// briefly bounds what a server says.
func briefly(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	var status api.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("Consul answers %d: %.200q", status.Code, strings.TrimSpace(status.Body))
	}
	return err
}

func (s *ConsulStore) query(ctx context.Context, q api.QueryOptions) *api.QueryOptions {
	q.Datacenter, q.Token = s.cfg.Datacenter, s.secret()
	return q.WithContext(ctx)
}

func (s *ConsulStore) write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{Datacenter: s.cfg.Datacenter, Token: s.secret()}).WithContext(ctx)
}

// Watch implements Store. Any server may answer; what it says counts while it hears of its leader, and is not older than what was seen.
func (s *ConsulStore) Watch(ctx context.Context, seen Seen) (Seen, error) {
	q := api.QueryOptions{AllowStale: true, WaitIndex: seen.Version, WaitTime: consulWait}
	if seen.Anew {
		q.WaitIndex = 0 // a Consul whose history is another one would wait in vain
	}
	next, doubt, err := s.watch(ctx, seen, q)
	if err == nil && doubt {
		next, doubt, err = s.watch(ctx, seen, api.QueryOptions{})
		if err == nil && doubt && next.Version >= seen.Version {
			err = errors.New("Consul knows no leader")
		}
	}
	return next, err
}

// watch asks once. Doubt: the leader must be asked whether the answer is news.
func (s *ConsulStore) watch(ctx context.Context, seen Seen, q api.QueryOptions) (next Seen, doubt bool, err error) {
	most := consulTimeout
	if q.WaitIndex > 0 {
		most += q.WaitTime + q.WaitTime/16 // Consul adds a sixteenth
	}
	err = s.asking(ctx, "following the relay", most, func(ctx context.Context, c *api.Client) error {
		pair, m, err := c.KV().Get(s.key(headName), s.query(ctx, q))
		if err != nil {
			return err
		}
		next.Version = max(m.LastIndex, 1)
		if pair != nil {
			next.Value, next.Held, next.Version = pair.Value, pair.Session != "", pair.ModifyIndex
		}
		doubt = !m.KnownLeader || m.LastContact > consulStale || m.LastIndex < seen.Version
		return nil
	})
	return next, doubt, err
}

// Read implements Store.
func (s *ConsulStore) Read(ctx context.Context, name string) (value []byte, err error) {
	for _, q := range []api.QueryOptions{{AllowStale: true}, {}} { // what a server lacks the leader may have
		err = s.asking(ctx, "reading the relay", consulTimeout, func(ctx context.Context, c *api.Client) error {
			pair, _, err := c.KV().Get(s.key(name), s.query(ctx, q))
			if err != nil {
				return err
			}
			if pair == nil {
				return errMissing
			}
			value = pair.Value
			return nil
		})
		if err == nil {
			return value, nil
		}
	}
	return nil, err
}

// Claim implements Store.
func (s *ConsulStore) Claim(ctx context.Context, seen Seen, head []byte) (Term, error) {
	var id string
	err := s.asking(ctx, "opening a session for the relay", consulTimeout, func(ctx context.Context, c *api.Client) (err error) {
		id, _, err = c.Session().CreateNoChecks(&api.SessionEntry{
			Name: "signalbox relay", TTL: s.cfg.TTL.String(), Behavior: api.SessionBehaviorRelease, LockDelay: time.Millisecond, //nolint:misspell // Consul's word
		}, s.write(ctx))
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &consulTerm{store: s, session: id, lost: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{})}
	check := &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: s.key(headName)}
	if seen.Value != nil {
		check = &api.KVTxnOp{Verb: api.KVCheckIndex, Key: s.key(headName), Index: seen.Version}
	}
	if err := t.transact(ctx, check, &api.KVTxnOp{Verb: api.KVLock, Key: s.key(headName), Session: id, Value: head}); err != nil {
		t.destroy(ctx)
		if errors.Is(err, errDeposed) {
			err = errTaken
		}
		return nil, err
	}
	go t.keep()
	return t, nil
}

// consulTerm holds the lock of the head.
type consulTerm struct {
	store   *ConsulStore
	session string
	lost    chan struct{}
	end     sync.Once
	stop    chan struct{}
	stopped chan struct{}
}

// transact does all or nothing. errDeposed says that a condition does not hold.
func (t *consulTerm) transact(ctx context.Context, ops ...*api.KVTxnOp) error {
	return t.store.asking(ctx, "writing the relay", consulTimeout, func(ctx context.Context, c *api.Client) error {
		ok, answer, _, err := c.KV().Txn(ops, t.store.query(ctx, api.QueryOptions{}))
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		}
		var said []string
		for _, e := range answer.Errors {
			said = append(said, e.What)
		}
		return fmt.Errorf("%w: %s", errDeposed, strings.Join(said, "; "))
	})
}

// Publish implements Term.
func (t *consulTerm) Publish(ctx context.Context, head []byte, values map[string][]byte) error {
	ops := []*api.KVTxnOp{{Verb: api.KVLock, Key: t.store.key(headName), Session: t.session, Value: head}}
	for name, value := range values {
		ops = append(ops, &api.KVTxnOp{Verb: api.KVSet, Key: t.store.key(name), Value: value})
	}
	return t.transact(ctx, ops...)
}

// Put implements Term.
func (t *consulTerm) Put(ctx context.Context, name string, value []byte) error {
	return t.store.asking(ctx, "writing the relay", consulTimeout, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: t.store.key(name), Value: value}, t.store.write(ctx))
		return err
	})
}

// Names implements Term.
func (t *consulTerm) Names(ctx context.Context) (names []string, err error) {
	err = t.store.asking(ctx, "listing the relay", consulTimeout, func(ctx context.Context, c *api.Client) error {
		keys, _, err := c.KV().Keys(t.store.key(""), "", t.store.query(ctx, api.QueryOptions{}))
		for _, k := range keys {
			names = append(names, strings.TrimPrefix(k, t.store.key("")))
		}
		return err
	})
	return names, err
}

// Delete implements Term.
func (t *consulTerm) Delete(ctx context.Context, name string) error {
	return t.store.asking(ctx, "tidying the relay", consulTimeout, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Delete(t.store.key(name), t.store.write(ctx))
		return err
	})
}

// Lost implements Term.
func (t *consulTerm) Lost() <-chan struct{} { return t.lost }

// keep renews the session until it is gone or could not be renewed for its whole time.
func (t *consulTerm) keep() {
	defer close(t.stopped)
	every := t.store.cfg.TTL / 4
	renewed := time.Now()
	for {
		select {
		case <-t.stop:
			return
		case <-time.After(every):
		}
		ctx, cancel := context.WithTimeout(context.Background(), every)
		at := time.Now()
		gone := false
		err := t.store.asking(ctx, "renewing the relay's session", every, func(ctx context.Context, c *api.Client) error {
			entry, _, err := c.Session().Renew(t.session, t.store.write(ctx))
			gone = err == nil && entry == nil
			return err
		})
		cancel()
		if err == nil {
			renewed = at
		}
		if gone || time.Since(renewed) > t.store.cfg.TTL {
			t.end.Do(func() { close(t.lost) })
			<-t.stop
			return
		}
	}
}

// Resign implements Term.
func (t *consulTerm) Resign(ctx context.Context) {
	close(t.stop)
	<-t.stopped
	t.destroy(ctx)
}

// destroy lets the session go, and the lock with it. Where that fails its time runs out.
func (t *consulTerm) destroy(ctx context.Context) {
	_ = t.store.asking(ctx, "closing the relay's session", consulTimeout, func(ctx context.Context, c *api.Client) error {
		_, err := c.Session().Destroy(t.session, t.store.write(ctx))
		return err
	})
}
