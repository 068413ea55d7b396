package haproxy

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"signalbox"
)

// The shape of a backend is what of its section can't be changed while HAProxy runs: the mode, the kind of check, how a task is chosen
// and spoken to. Its servers, and what Settings hold, are not part of it. How often a check is made is none either: a change of that
// alone waits in the file for the next load.

type shape struct {
	mode                               signalbox.Mode
	check                              signalbox.CheckKind
	checkTLS                           bool
	balance, sticky                    string
	slowStart, connectTimeout, timeout time.Duration // timeout: of connections without HTTP
	maxConn, retries                   int           // retries: -1 for the default
	backendTLS                         signalbox.BackendTLS
	http2, sendProxy                   bool
}

// shape returns the backend's shape, and whether others can have it: its section has nothing that is about its service alone.
func (b *Backend) shape() (shape, bool) {
	s := shape{mode: b.Mode, check: b.Check.Kind, checkTLS: b.Check.TLS, retries: -1}
	if b.Policy == nil {
		return s, true
	}
	p := b.Policy
	if b.special() || p.ServerName != "" || p.BackendTLS == signalbox.BackendVerified {
		return shape{}, false
	}
	s.balance, s.sticky, s.slowStart, s.maxConn, s.connectTimeout = p.Balance, p.Sticky, p.SlowStart, p.MaxConn, p.ConnectTimeout
	s.backendTLS, s.http2, s.sendProxy = p.BackendTLS, p.HTTP2, p.SendProxy
	if p.Retries != nil {
		s.retries = *p.Retries
	}
	if b.Mode == signalbox.TCP {
		s.timeout = p.Timeout
	}
	return s, true
}

// spare returns a backend of the shape that nobody has yet, without servers.
func (s shape) spare(name string, times signalbox.Check) *Backend {
	b := &Backend{Name: name, Mode: s.mode, Check: times, Retired: true, Resting: true}
	b.Check.Kind, b.Check.TLS = s.check, s.checkTLS
	if s.check == signalbox.CheckOff {
		b.Check = signalbox.Check{Kind: signalbox.CheckOff}
	}
	if plain := (shape{mode: s.mode, check: s.check, checkTLS: s.checkTLS, retries: -1}); s == plain {
		return b
	}
	b.Policy = &Policy{Policy: signalbox.Policy{
		Balance: s.balance, Sticky: s.sticky, SlowStart: s.slowStart, MaxConn: s.maxConn, ConnectTimeout: s.connectTimeout, Timeout: s.timeout,
		BackendTLS: s.backendTLS, HTTP2: s.http2, SendProxy: s.sendProxy,
	}}
	if s.retries >= 0 {
		b.Policy.Retries = &s.retries
	}
	return b
}

// sortedShapes returns shapes in one order.
func sortedShapes[V any](of map[shape]V) []shape {
	return slices.SortedFunc(maps.Keys(of), func(x, y shape) int {
		return cmp.Or(cmp.Compare(x.mode, y.mode), cmp.Compare(x.check, y.check), count(x.checkTLS)-count(y.checkTLS),
			cmp.Compare(x.balance, y.balance), cmp.Compare(x.sticky, y.sticky), cmp.Compare(x.slowStart, y.slowStart),
			cmp.Compare(x.connectTimeout, y.connectTimeout), cmp.Compare(x.timeout, y.timeout), cmp.Compare(x.maxConn, y.maxConn),
			cmp.Compare(x.retries, y.retries), cmp.Compare(x.backendTLS, y.backendTLS), count(x.http2)-count(y.http2),
			count(x.sendProxy)-count(y.sendProxy))
	})
}

// special reports whether a backend's section has lines of its own about who may enter and what is done with requests and answers.
func (b *Backend) special() bool {
	if b.Policy == nil {
		return false
	}
	p := *b.Policy
	p.ServerName = ""
	p.Policy = about(p.Policy, signalbox.Policy{})
	return !reflect.ValueOf(&p).Elem().IsZero()
}

// about returns a policy with what tells which task is chosen and how it is spoken to, and what Settings hold, replaced by that of
// another one.
func about(p, by signalbox.Policy) signalbox.Policy {
	p.Balance, p.Sticky, p.SlowStart, p.MaxConn = by.Balance, by.Sticky, by.SlowStart, by.MaxConn
	p.ConnectTimeout, p.Retries = by.ConnectTimeout, by.Retries
	p.BackendTLS, p.HTTP2, p.SendProxy = by.BackendTLS, by.HTTP2, by.SendProxy
	p.Timeout, p.HTTPSRedirect, p.HSTS = by.Timeout, by.HTTPSRedirect, by.HSTS
	return p
}

// fixed returns what of the policy stands in the backend's section.
func (b *Backend) fixed() *Policy {
	p := b.Policy
	if p == nil || b.Mode == signalbox.TCP || p.Timeout == 0 && !p.HTTPSRedirect && !p.HSTS || b.special() {
		return p
	}
	f := *p
	f.Timeout, f.HTTPSRedirect, f.HSTS = 0, false, false
	if reflect.ValueOf(&f).Elem().IsZero() {
		return nil
	}
	return &f
}

// samePolicy reports whether what two backends' sections say of their policies is the same.
func (b *Backend) samePolicy(o *Backend) bool {
	return b.Policy == o.Policy && b.Mode == o.Mode || b.fixed().Equal(o.fixed())
}

// sameCheck reports whether two backends are probed in one way.
func (b *Backend) sameCheck(o *Backend) bool {
	return b.Check.Kind == o.Check.Kind && b.Check.TLS == o.Check.TLS
}

// Fits reports whether two backends have one shape: HAProxy need not load the one to do as the other, their servers aside.
func (b *Backend) Fits(o *Backend) bool {
	return b == o || b.Mode == o.Mode && b.sameCheck(o) && b.samePolicy(o)
}
