package haproxy

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
)

// hostileTexts are hostile alone, and where a field wants something before or after them; and each byte amid plain ones.
func hostileTexts() []string {
	out := slices.Clone(hostile)
	for _, h := range hostile {
		out = append(out, "/"+h, "x"+h, h+"x", "http://"+h, "/x/"+h+"/y")
	}
	for b := range 256 {
		out = append(out, "a"+string([]byte{byte(b)})+"b")
		if b < 128 && !isAlnum(byte(b)) {
			out = append(out, "/a"+string([]byte{byte(b)})+"b")
		}
	}
	for _, word := range append(slices.Clone(sections), "backend x", "\tbackend x", "'backend' x", `"backend" x`, `back\end x`, `b"ack"end x`, "b'ack'end x", "BACKEND x", ".if true",
		"http-request deny\nbackend x", "http-request deny \\", "$BACKEND x", `"${BACKEND}" x`, "no backend x", "default-server", "server s9 10.0.0.9:80", "{{.Name}}",
		strings.Repeat("x ", 5000), strings.Repeat("%", 4000), "if", "unless", "a if TRUE", "-m", "-f", "--", "-i", "-M /x", "null", "https://*", "*,*") {
		out = append(out, word, word+" ", " "+word)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// policyTexts says how a text comes to stand in each field of a policy that holds one.
var policyTexts = map[string]func(*signalbox.Policy, string){
	"Balance":    func(p *signalbox.Policy, s string) { p.Balance = s },
	"Sticky":     func(p *signalbox.Policy, s string) { p.Sticky = s },
	"Auth.Realm": func(p *signalbox.Policy, s string) { p.Auth = &signalbox.Auth{Realm: s, User: "ann", Hash: "$6$a$b"} },
	"Auth.List":  func(p *signalbox.Policy, s string) { p.Auth = &signalbox.Auth{Realm: "r", List: s} },
	"Auth.User":  func(p *signalbox.Policy, s string) { p.Auth = &signalbox.Auth{Realm: "r", User: s, Hash: "$6$a$b"} },
	"Auth.Hash":  func(p *signalbox.Policy, s string) { p.Auth = &signalbox.Auth{Realm: "r", User: "ann", Hash: s} },
	"Auth.Hash, a kind": func(p *signalbox.Policy, s string) {
		p.Auth = &signalbox.Auth{Realm: "r", User: "ann", Hash: "$6$" + s}
	},
	"Refused":              func(p *signalbox.Policy, s string) { p.Refused = s },
	"TLS":                  func(p *signalbox.Policy, s string) { p.TLS = s },
	"RewritePath":          func(p *signalbox.Policy, s string) { p.RewritePath = s },
	"StripPath":            func(p *signalbox.Policy, s string) { p.StripPath = s },
	"RewriteHost":          func(p *signalbox.Policy, s string) { p.RewriteHost = s },
	"RewriteHost, TLS":     func(p *signalbox.Policy, s string) { p.RewriteHost, p.BackendTLS = s, signalbox.BackendVerified },
	"RewriteLocation":      func(p *signalbox.Policy, s string) { p.RewriteLocation = s },
	"RedirectRoot":         func(p *signalbox.Policy, s string) { p.RedirectRoot = s },
	"CORS":                 func(p *signalbox.Policy, s string) { p.CORS = []string{s} },
	"CORS, several":        func(p *signalbox.Policy, s string) { p.CORS = []string{"https://a.example", s} },
	"RequestHeaders.Name":  func(p *signalbox.Policy, s string) { p.RequestHeaders = []signalbox.Header{{Name: s, Value: "y"}} },
	"RequestHeaders":       func(p *signalbox.Policy, s string) { p.RequestHeaders = []signalbox.Header{{Name: "x", Value: s}} },
	"ResponseHeaders.Name": func(p *signalbox.Policy, s string) { p.ResponseHeaders = []signalbox.Header{{Name: s, Value: "y"}} },
	"LogHeaders":           func(p *signalbox.Policy, s string) { p.LogHeaders = []string{s} },
	"ResponseHeaders":      func(p *signalbox.Policy, s string) { p.ResponseHeaders = []signalbox.Header{{Name: "x", Value: s}} },
	"ErrorPages":           func(p *signalbox.Policy, s string) { p.ErrorPages = []signalbox.ErrorPage{{Status: 503, Name: s}} },
	"BackendTLS":           func(p *signalbox.Policy, s string) { p.BackendTLS = signalbox.BackendTLS(s) },
	"Raw":                  func(p *signalbox.Policy, s string) { p.Raw = []string{s} },
	"RoutePatterns":        func(p *signalbox.Policy, s string) { p.RoutePatterns = []string{s} },
	"Log":                  func(p *signalbox.Policy, s string) { p.Log = s },
	"Trace":                func(p *signalbox.Policy, s string) { p.Trace = s },
	"Owner":                func(p *signalbox.Policy, s string) { p.Owner = s },
	"Docs":                 func(p *signalbox.Policy, s string) { p.Docs = s },
}

// policyNumbers are fields that hold no text, each with odd values.
var policyNumbers = map[string]func(*signalbox.Policy, int){
	"Priority": func(p *signalbox.Policy, n int) { p.Priority = n }, "Weight": func(p *signalbox.Policy, n int) { p.Weight = &n },
	"SlowStart": func(p *signalbox.Policy, n int) { p.SlowStart = time.Duration(n) }, "MaxConn": func(p *signalbox.Policy, n int) { p.MaxConn = n },
	"Timeout": func(p *signalbox.Policy, n int) { p.Timeout = time.Duration(n) }, "ConnectTimeout": func(p *signalbox.Policy, n int) { p.ConnectTimeout = time.Duration(n) },
	"Retries": func(p *signalbox.Policy, n int) { p.Retries = &n }, "RateLimit": func(p *signalbox.Policy, n int) {
		p.RateLimit = signalbox.RateLimit{Requests: n, Per: time.Duration(n)}
	},
	"RateLimit, requests": func(p *signalbox.Policy, n int) { p.RateLimit = signalbox.RateLimit{Requests: n, Per: time.Second} },
	"RateLimit, period": func(p *signalbox.Policy, n int) {
		p.RateLimit = signalbox.RateLimit{Requests: 1, Per: time.Duration(n)}
	},
	"ErrorPages, status": func(p *signalbox.Policy, n int) { p.ErrorPages = []signalbox.ErrorPage{{Status: n, Name: "page"}} },
	"TaskPort":           func(p *signalbox.Policy, n int) { p.TaskPort = n },
	"SLO":                func(p *signalbox.Policy, n int) { p.SLO.Objective = float64(n) },
	"Passthrough":        func(p *signalbox.Policy, n int) { p.Passthrough = n > 0 }, "PortTLS": func(p *signalbox.Policy, n int) { p.PortTLS = n > 0 },
	"HTTPSRedirect": func(p *signalbox.Policy, n int) { p.HTTPSRedirect = n > 0 }, "HSTS": func(p *signalbox.Policy, n int) { p.HSTS = n > 0 },
	"StripPrefix": func(p *signalbox.Policy, n int) { p.StripPrefix = n > 0 }, "AcceptProxy": func(p *signalbox.Policy, n int) { p.AcceptProxy = n > 0 },
	"HTTP2": func(p *signalbox.Policy, n int) { p.HTTP2 = n > 0 }, "SendProxy": func(p *signalbox.Policy, n int) { p.SendProxy = n > 0 },
	"Allow": func(p *signalbox.Policy, n int) {
		p.Allow = make([]netip.Prefix, max(0, min(n, 500))+1)
		for i := range p.Allow {
			p.Allow[i] = netip.PrefixFrom(netip.MustParseAddr("fe80::1"), i%200)
		}
	},
	"BindAddress": func(p *signalbox.Policy, n int) {
		p.BindAddress = []netip.Addr{{}, netip.IPv6LinkLocalAllNodes().WithZone("a b"), netip.MustParseAddr("::ffff:10.0.0.1")}[uint(n)%3]
	},
}

var oddNumbers = []int{math.MinInt, -1, 0, 1, 2, 63, 64, 503, 999, 1e6, 1e9, 1e12, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt}

// Whatever stands in a field of a policy, past the labels' own checks: the configuration has the shape that a plain value gives it,
// the shape without the field, or the one in which nobody may enter; and the real HAProxy loads it.
func TestHostilePoliciesKeepTheShape(t *testing.T) {
	t.Parallel()
	texts := hostileTexts()
	if len(texts) < 300 {
		t.Fatalf("only %d texts", len(texts))
	}
	covered := func(field string) bool {
		for name := range policyTexts {
			if strings.HasPrefix(name, field) {
				return true
			}
		}
		return slices.ContainsFunc(reflect.ValueOf(policyNumbers).MapKeys(), func(v reflect.Value) bool { return strings.HasPrefix(v.String(), field) })
	}
	for i := range reflect.TypeFor[signalbox.Policy]().NumField() {
		if field := reflect.TypeFor[signalbox.Policy]().Field(i).Name; !covered(field) {
			t.Errorf("the field %s is not attacked", field)
		}
	}
	h := newShapes(t)
	for _, mode := range []signalbox.Mode{signalbox.HTTP, signalbox.TCP} {
		for name, set := range policyTexts {
			allowed := [][]string{h.of(mode, signalbox.Policy{}), h.of(mode, signalbox.Policy{Refused: "x"})}
			for _, plain := range []string{"plain", "/plain", "leastconn", "uri", "verify", "*", "https://plain.example", "$6$plain$plain", "$1$a", "plainplain...", "page", "insecure", "staff"} {
				var p signalbox.Policy
				set(&p, plain)
				allowed = append(allowed, h.of(mode, p))
			}
			harmless := h.of(mode, signalbox.Policy{Raw: []string{"harmless"}})
			for i, text := range texts {
				if mode == signalbox.TCP && i%5 > 0 { // fewer fields reach it
					continue
				}
				var p signalbox.Policy
				set(&p, text)
				got := h.of(mode, p)
				switch {
				case name == "Raw":
					h.raw(text, harmless, got)
				case !slices.ContainsFunc(allowed, func(a []string) bool { return slices.Equal(a, got) }):
					t.Fatalf("%s, %s = %.200q changes the shape to\n%s", mode, name, text, strings.Join(got, "\n"))
				}
			}
		}
		for _, set := range policyNumbers {
			for _, n := range oddNumbers {
				var p signalbox.Policy
				set(&p, n)
				h.of(mode, p)
			}
		}
	}
	h.load()
}

// shapes builds services that have one policy each, and remembers those whose backends differ.
type shapes struct {
	t       *testing.T
	options *Options
	tmpl    *Template
	blocks  map[string]bool
	kept    []*signalbox.Service
}

func newShapes(t *testing.T) *shapes {
	o := testOptions(shortDir(t))
	o.LogPulled = !sendsRings(t)
	o.UserLists, o.ErrorPages = map[string][]User{"staff": {{"ann", "$6$a$b"}}}, map[string][]byte{"page": []byte("page")}
	o.MinSlots = 1
	return &shapes{t: t, options: o, tmpl: DefaultTemplate(), blocks: make(map[string]bool)}
}

// of returns the shape of the block of one service with a policy.
func (h *shapes) of(mode signalbox.Mode, p signalbox.Policy) []string {
	s := with(service("/attacker", "attacker.local/x"), p)
	s.Mode = mode
	out := &limited{}
	if err := h.tmpl.block(out, Build(tableOf(s), h.options, nil).Backends[0], h.options); err != nil {
		h.t.Fatal(err)
	}
	// All but what Raw holds is loaded: a line of the operator's may be wrong, but no more than that.
	if block := out.String(); !h.blocks[block] && p.Raw == nil {
		h.blocks[block] = true
		s.App = fmt.Sprintf("/attacker%d", len(h.kept))
		s.ID, s.Routes = signalbox.NewServiceID(s.App, 0), []signalbox.Route{{Host: fmt.Sprintf("a%d.local", len(h.kept)), Path: "/x"}}
		h.kept = append(h.kept, s)
	}
	return outline(h.t, out.String())
}

// raw holds a line of the operator's to be one line at most, that begins no section.
func (h *shapes) raw(text string, harmless, got []string) {
	if slices.Equal(got, h.of(signalbox.HTTP, signalbox.Policy{})) || slices.Equal(got, h.of(signalbox.TCP, signalbox.Policy{})) {
		return
	}
	var more []string
	rest := slices.DeleteFunc(slices.Clone(harmless), func(line string) bool { return line == "harmless" })
	for _, line := range got {
		if i := slices.Index(rest, line); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		more = append(more, line)
	}
	if len(rest) > 0 || len(more) > 1 || len(more) == 1 && slices.Contains(sections, strings.ToLower(strings.Fields(more[0])[0])) {
		h.t.Fatalf("the raw line %q adds %q and takes %q", text, more, rest)
	}
}

// load gives all that was built to the real HAProxy.
func (h *shapes) load() {
	f, err := Render(h.tmpl, Build(tableOf(h.kept...), h.options, nil))
	if err != nil {
		h.t.Fatal(err)
	}
	write(h.t, h.options.Dir, f)
	if err := check(h.t, h.options.Dir); err != nil {
		h.t.Errorf("%d backends: %.3000v", len(h.kept), err)
	}
	h.t.Logf("%d backends differ", len(h.kept))
}
