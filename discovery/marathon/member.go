package marathon

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// members are the addresses of one Marathon, as configured or as a directory knows them, and what is known of each. It is safe for concurrent use.
type members struct {
	mu     sync.Mutex
	all    []*member
	leader *member // as an answer named it; nil: unknown or not configured
	lead   string  // the leader as it was named
	best   *member // that answered last
	turn   int     // the member whose turn it is among equals
}

// member is one configured address.
type member struct {
	url   *url.URL
	fails int
	until time.Time // in back-off until then
}

func (m *member) String() string { return m.url.String() }

func newMembers(urls []string) (*members, error) {
	all, err := parseMembers(urls)
	if err != nil {
		return nil, err
	}
	return &members{all: all}, nil
}

// parseMembers returns the members with these base URLs, each once.
func parseMembers(urls []string) (all []*member, err error) {
	for _, raw := range urls {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil {
			var parse *url.Error
			if errors.As(err, &parse) { // its text would repeat a password
				err = parse.Err
			}
			return nil, fmt.Errorf("reading a Marathon URL: %w", err)
		}
		switch {
		case u.User != nil:
			return nil, fmt.Errorf("the Marathon URL of %s holds credentials: give a user and a password file", u.Host)
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return nil, fmt.Errorf("%q is no Marathon URL: want http://host:port or https://host:port", raw)
		case u.RawQuery != "" || u.Fragment != "":
			return nil, fmt.Errorf("the Marathon URL of %s has a query or a fragment", u.Host) // which may hold a secret
		}
		u.Path = strings.TrimRight(u.Path, "/")
		if !slices.ContainsFunc(all, func(m *member) bool { return m.String() == u.String() }) {
			all = append(all, &member{url: u})
		}
	}
	return all, nil
}

// replace takes over the members that a directory knows, the leader first, and reports whether the leader is another one. What is known of
// those that stay is kept, but for the leader's back-off: whoever leads now may have come back.
func (ms *members) replace(urls []string) (moved bool, err error) {
	all, err := parseMembers(urls)
	if err != nil || len(all) == 0 {
		return false, err
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for i, m := range all {
		if at := slices.IndexFunc(ms.all, func(old *member) bool { return old.String() == m.String() }); at >= 0 {
			all[i] = ms.all[at]
		}
	}
	moved = ms.leader != all[0]
	ms.all, ms.leader, ms.lead, ms.turn = all, all[0], all[0].url.Host, 0
	ms.leader.fails, ms.leader.until = 0, time.Time{}
	if !slices.Contains(all, ms.best) {
		ms.best = nil
	}
	return moved, nil
}

// urls returns the members' base URLs.
func (ms *members) urls() (all []string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		all = append(all, m.String())
	}
	return all
}

// configured reports whether a URL has the scheme, host and port of a member.
func (ms *members) configured(u *url.URL) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.ContainsFunc(ms.all, func(m *member) bool { return sameOrigin(m.url, u) })
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// order returns the members as they are to be tried: the leader, then the one that answered last, then the others in turn; those
// in back-off last, the one whose back-off ends first before the others.
func (ms *members) order(now time.Time) []*member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	rank := func(m *member) int {
		switch m {
		case ms.leader:
			return -2
		case ms.best:
			return -1
		}
		i := slices.Index(ms.all, m)
		return (i - ms.turn + len(ms.all)) % len(ms.all)
	}
	out := slices.Clone(ms.all)
	slices.SortStableFunc(out, func(a, b *member) int {
		aOff, bOff := a.until.After(now), b.until.After(now)
		switch {
		case aOff && bOff:
			return a.until.Compare(b.until)
		case aOff:
			return 1
		case bOff:
			return -1
		}
		return cmp.Compare(rank(a), rank(b))
	})
	return out
}

// good notes that a member has answered.
func (ms *members) good(m *member) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.fails, m.until, ms.best = 0, time.Time{}, m
}

// failed notes that a member has not answered; it rests for 0.5 s, then twice as long each time, up to 15 s.
func (ms *members) failed(m *member, now time.Time) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.until = now.Add(min(500*time.Millisecond<<min(m.fails, 8), 15*time.Second))
	m.fails++
	if ms.best == m {
		ms.best = nil
	}
	if ms.leader == m {
		ms.leader, ms.lead = nil, ""
	}
	ms.turn = (slices.Index(ms.all, m) + 1) % len(ms.all) // 0 for one that is none any more
}

// leads notes the leader as an answer names it: a URL, or host:port. It is preferred if it is configured.
func (ms *members) leads(leader string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if leader == ms.lead && ms.leader != nil {
		return
	}
	ms.lead, ms.leader = leader, nil
	u, err := url.Parse(leader)
	for _, m := range ms.all {
		if err == nil && sameOrigin(m.url, u) || strings.EqualFold(m.url.Host, leader) {
			ms.leader = m
		}
	}
}

// leaderless reports whether there are several members and no answer has named the leader.
func (ms *members) leaderless() bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.all) > 1 && ms.lead == ""
}

// answering returns the member that answered last, for people.
func (ms *members) answering() string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.best == nil {
		return ""
	}
	return ms.best.String()
}

// unconfiguredLeader returns the leader as it was named if it is none of the members.
func (ms *members) unconfiguredLeader() string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.leader != nil {
		return ""
	}
	return ms.lead
}
