package discovery

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ResolverConfig configures a Resolver.
type ResolverConfig struct {
	// TTL is how long an answer counts as fresh; default 60 s. The system's resolver does not tell the record's own.
	TTL time.Duration
	// Timeout bounds one lookup; default 2 s.
	Timeout time.Duration
	// Forget is how long a name that nobody asks for is kept; default 15 min.
	Forget time.Duration
	// LookupHost returns the addresses of a name; default: the system's resolver.
	LookupHost func(ctx context.Context, host string) ([]netip.Addr, error)
}

// HostChange says that a name has another address than before. From is invalid for a name that had none.
type HostChange struct {
	Host     string
	From, To netip.Addr
}

// Resolver turns host names into addresses, off the apply path: Lookup answers from memory, and an answer that was once good
// stays until a newer one replaces it. It is safe for concurrent use.
type Resolver struct {
	cfg   ResolverConfig
	limit chan struct{} // bounds lookups at one time

	mu    sync.Mutex
	names map[string]*hostName
}

type hostName struct {
	addr  netip.Addr // the last good one; invalid: none yet
	next  time.Time  // when to look it up again
	asked time.Time  // when somebody last wanted it
	fails int
}

// NewResolver returns a resolver; zero values of cfg take their defaults.
func NewResolver(cfg ResolverConfig) *Resolver {
	orDefault(&cfg.TTL, time.Minute)
	orDefault(&cfg.Timeout, 2*time.Second)
	orDefault(&cfg.Forget, 15*time.Minute)
	if cfg.LookupHost == nil {
		cfg.LookupHost = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return &Resolver{cfg: cfg, limit: make(chan struct{}, 16), names: map[string]*hostName{}}
}

// Lookup returns the address of a host from memory: an address stands for itself, a name for its last good answer. It does not
// wait; a name that is not known yet is false until Prefetch or Run has looked it up.
func (r *Resolver) Lookup(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), true
	}
	if host == "" {
		return netip.Addr{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[host]
	if n == nil {
		n = &hostName{}
		r.names[host] = n
	}
	n.asked = time.Now()
	return n.addr, n.addr.IsValid()
}

// Prefetch looks up those of hosts that have never been looked up, and returns when each has an answer or has failed, or when
// ctx ends, and at last after twice the time of one lookup: the others are left to Run. A name that failed a moment ago is not tried
// again here.
func (r *Resolver) Prefetch(ctx context.Context, hosts []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	now := time.Now()
	for _, host := range hosts {
		if _, ok := r.Lookup(host); ok || host == "" {
			continue
		}
		r.mu.Lock()
		due := !now.Before(r.names[host].next)
		r.mu.Unlock()
		if due {
			wg.Go(func() { r.refresh(ctx, host) })
		}
	}
	wg.Wait()
}

// Run keeps the names that are in use fresh until ctx ends, and calls changed, from one goroutine, with those whose address is
// another than before.
func (r *Resolver) Run(ctx context.Context, changed func([]HostChange)) {
	tick := time.NewTicker(max(r.cfg.TTL/60, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var (
			mu  sync.Mutex
			out []HostChange
			wg  sync.WaitGroup
		)
		for _, host := range r.due(time.Now()) {
			wg.Go(func() {
				if c, ok := r.refresh(ctx, host); ok {
					mu.Lock()
					out = append(out, c)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(out) > 0 && ctx.Err() == nil {
			changed(out)
		}
	}
}

// due returns the names to look up now, and forgets those that nobody has asked for lately.
func (r *Resolver) due(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for host, n := range r.names {
		switch {
		case now.Sub(n.asked) > r.cfg.Forget:
			delete(r.names, host)
		case !now.Before(n.next):
			out = append(out, host)
		}
	}
	return out
}

// refresh looks one name up, and reports a change of its address.
func (r *Resolver) refresh(ctx context.Context, host string) (HostChange, bool) {
	select {
	case r.limit <- struct{}{}:
		defer func() { <-r.limit }()
	case <-ctx.Done():
		return HostChange{}, false
	}
	lookup, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	addrs, err := r.cfg.LookupHost(lookup, host)
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[host]
	if n == nil {
		return HostChange{}, false
	}
	if err != nil || len(addrs) == 0 {
		n.fails = min(n.fails+1, 6)
		n.next = time.Now().Add(min(time.Second<<n.fails, r.cfg.TTL))
		return HostChange{}, false
	}
	n.fails, n.next = 0, time.Now().Add(r.cfg.TTL)
	from := n.addr
	n.addr = choose(addrs, from)
	return HostChange{Host: host, From: from, To: n.addr}, n.addr != from
}

// choose returns the current address if it is still among the answers, else the lowest, IPv4 first: resolvers rotate their
// answers, and routes must not follow.
func choose(addrs []netip.Addr, current netip.Addr) netip.Addr {
	sorted := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		sorted = append(sorted, a.Unmap())
	}
	if slices.Contains(sorted, current) {
		return current
	}
	return slices.MinFunc(sorted, netip.Addr.Compare) // netip orders IPv4 before IPv6
}
