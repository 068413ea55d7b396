package haproxy

import (
	"reflect"

	"signalbox"
)

// The shape of a backend is what of its section can't be changed while HAProxy runs: the mode, the kind of check, how a task is chosen
// and spoken to. Its servers, and what Settings hold, are not part of it. How often a check is made is none either: a change of that
// alone waits in the file for the next load.

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
	return b.Policy == o.Policy && b.Mode == o.Mode || b.fixed().equal(o.fixed())
}

// sameCheck reports whether two backends are probed in one way.
func (b *Backend) sameCheck(o *Backend) bool {
	return b.Check.Kind == o.Check.Kind && b.Check.TLS == o.Check.TLS
}

// fits reports whether two backends have one shape.
func (b *Backend) fits(o *Backend) bool {
	return b == o || b.Mode == o.Mode && b.sameCheck(o) && b.samePolicy(o)
}
