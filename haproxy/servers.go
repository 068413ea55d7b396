package haproxy

import (
	"fmt"
	"slices"
	"strconv"

	"signalbox"
)

// defaultServer returns what every server has unless its backend says otherwise. The first request that reaches no task brings that
// task's next check forward to within a second.
func (o *Options) defaultServer() []Word {
	return []Word{
		"check", "inter", "2s", "fastinter", "1s", "downinter", Word(millis(o.soonInterval()).String()), "fall", "3", "rise", "2",
		"observe", "layer4", "error-limit", "1", "on-error", "fastinter", "weight", "100",
	}
}

// paceOptions returns what a server of a pace says of its checks, beside the options of its backend.
func (b *Backend) paceOptions(p Pace, o *Options) []Word {
	switch {
	case !b.checked():
	case p == Quick:
		return []Word{"inter", Word(millis(o.soonInterval()).String()), "rise", "1"}
	case p == Far:
		return []Word{"inter", Word(millis(o.FarInterval(b.Check.Interval)).String())}
	}
	return nil
}

// serverOptions returns what every server of b has beside defaultServer; of a word that stands in both the later one counts.
func (b *Backend) serverOptions() []Word {
	var words []Word
	add := func(w ...Word) { words = append(words, w...) }
	checked, tls := b.checked(), false
	if p := b.Policy; p != nil {
		if p.SlowStart > 0 {
			add("slowstart", Word(millis(p.SlowStart).String()))
		}
		if p.MaxConn > 0 {
			add("maxconn", Word(strconv.Itoa(p.MaxConn)))
		}
		if tls = p.BackendTLS != signalbox.BackendPlain; tls {
			add("ssl")
			add(identity(b, p)...)
		}
		switch {
		case !p.HTTP2 || b.Mode == signalbox.TCP:
		case tls:
			add("alpn", "h2", "ws", "h1")
		default:
			add("proto", "h2", "ws", "h1")
		}
		if p.SendProxy {
			add("send-proxy-v2")
		}
		if checked {
			add(probe(p, tls)...)
		}
	}
	switch {
	case !checked:
		return words
	case b.Check.TLS && !tls:
		add("check-ssl", "verify", "none")
	}
	if b.Check.Interval > 0 {
		add("inter", Word(millis(b.Check.Interval).String()))
	}
	if b.Check.Fall > 0 {
		add("fall", Word(strconv.Itoa(b.Check.Fall)))
	}
	return words
}

// checked reports whether HAProxy checks the servers.
func (b *Backend) checked() bool { return b.Check.Kind != signalbox.CheckOff }

// identity returns whose certificate is taken.
func identity(b *Backend, p *Policy) []Word {
	words := []Word{"verify", "none"}
	if p.BackendTLS == signalbox.BackendVerified {
		words = []Word{"verify", "required", "ca-file", "@system-ca"}
	}
	switch {
	case b.Mode != signalbox.TCP:
		words = append(words, "sni", "req.fhdr(host),host_only")
	case p.ServerName != "":
		words = append(words, "sni", Word("str("+p.ServerName+")"))
	}
	return words
}

// probe returns how the checks of a backend speak to its servers.
func probe(p *Policy, tls bool) []Word {
	var words []Word
	if tls {
		words = append(words, "check-ssl")
		if p.ServerName != "" {
			words = append(words, "check-sni", Word(p.ServerName))
		}
		if p.HTTP2 {
			words = append(words, "check-alpn", "h2")
		}
	}
	if p.SendProxy {
		words = append(words, "check-send-proxy")
	}
	return words
}

// addedServer is what a server that is added says beside the options of its backend. "default-server" does not reach it, and before
// 3.0 neither do HAProxy's own defaults: without these it would close each connection after use.
// One that were not disabled would be checked while it is free.
var addedServer = []Word{"pool-max-conn", "-1", "pool-purge-delay", "5s", "disabled"}

// canAdd reports whether to has more servers than b, is the same but for them, and HAProxy can be given them while it runs. What a
// backend of the operator's own lines says of its servers is not known, rules that name servers come with a reload, and before 3.0 a
// server that is added takes one request of HTTP/2 on each connection.
func (b *Backend) canAdd(to *Backend, o *Options) bool {
	if o == nil || !o.AddServers || len(b.Slots) == 0 || len(b.Slots) >= len(to.Slots) {
		return false
	}
	if p := to.Policy; p != nil && (len(p.Raw) > 0 || p.HTTP2) || !to.Fits(b) {
		return false
	}
	near, _ := b.nearRules(o)
	more, _ := to.nearRules(o)
	return len(near) == len(more) && !slices.ContainsFunc(to.addedOptions(o), func(w Word) bool { return !commandWord(w) })
}

// Sized returns b with a number of servers: the last ones are cut off, or free ones stand behind them.
func (b *Backend) Sized(n int) *Backend {
	s := *b
	s.Slots = grow(slices.Clone(b.Slots[:min(n, len(b.Slots))]), n)
	return &s
}

// addedOptions returns what a server of b says that is added. None takes "no-check", nor does one have a check that asks for none.
func (b *Backend) addedOptions(o *Options) []Word {
	if !b.checked() {
		return slices.Concat([]Word{"weight", "100"}, addedServer, b.serverOptions())
	}
	return slices.Concat(o.defaultServer(), addedServer, b.serverOptions())
}

// commandWord reports whether a word stands for itself in a runtime command, where nothing can be quoted.
func commandWord(w Word) bool { return w != "" && all(string(w), "._:@(),*/-") }

// added returns the commands that give b a free server, the numbered one of its kind. The number decides its place where a hash
// chooses, as it does in the file.
func added(b *Backend, s Server, number int, o *Options) []Command {
	why := "one more server of " + string(b.Service)
	text := fmt.Sprintf("add server %s/%s %s id %d", b.Name, s.Name, freeAddress, number)
	for _, w := range append(b.addedOptions(o), b.paceOptions(s.Pace, o)...) {
		text += " " + string(w)
	}
	out := []Command{{Text: text, Why: why}}
	if b.checked() {
		out = append(out, Command{Text: "enable health " + b.Name + "/" + s.Name, Why: why})
	}
	return out
}

// freeAddress is the address of a server that never had a task.
const freeAddress = "127.0.0.1:1"
