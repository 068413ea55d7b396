package haproxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signalbox"
)

// drawPolicy draws a policy of fields that mostly hold, one in five of each.
func drawPolicy(t *rapid.T) signalbox.Policy {
	var p signalbox.Policy
	sometimes := func(name string) bool { return rapid.IntRange(0, 4).Draw(t, name) == 0 }
	text := func(name string, values ...string) string {
		if !sometimes(name) {
			return ""
		}
		return rapid.SampledFrom(values).Draw(t, name)
	}
	number := func(name string, low, high int) int {
		if !sometimes(name) {
			return 0
		}
		return rapid.IntRange(low, high).Draw(t, name)
	}
	p.Balance = text("balance", append(slices.Clone(signalbox.Balances), "odd")...)
	p.Sticky = text("sticky", "SIGNALBOX_TASK", "a b", "x")
	p.SlowStart = time.Duration(number("slow start", -1, 3600)) * time.Second
	p.MaxConn = number("maxconn", -1, 2_000_000)
	p.Timeout = time.Duration(number("timeout", -1, 1e9)) * time.Millisecond
	p.ConnectTimeout = time.Duration(number("connect timeout", -1, 1e6)) * time.Millisecond
	if sometimes("retries") {
		n := rapid.IntRange(-1, 12).Draw(t, "how often")
		p.Retries = &n
	}
	if sometimes("weight") {
		n := rapid.IntRange(0, 256).Draw(t, "share")
		p.Weight = &n
	}
	p.Priority = number("priority", -1, 1)
	for range number("allow", 1, 130) {
		addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "net")))
		p.Allow = append(p.Allow, netip.PrefixFrom(addr, rapid.IntRange(0, 32).Draw(t, "bits")))
	}
	if sometimes("auth") {
		p.Auth = rapid.SampledFrom([]*signalbox.Auth{
			{Realm: `a "realm"`, List: "staff"}, {List: "none"}, {Realm: "r", User: "o'neill", Hash: "$6$a$b"}, {Realm: "r", User: "a:b", Hash: "$6$a$b"}, {},
		}).Draw(t, "who")
	}
	if sometimes("rate") {
		p.RateLimit = signalbox.RateLimit{Requests: rapid.IntRange(-1, 1e6).Draw(t, "requests"), Per: time.Duration(rapid.Int64Range(-1, 1e13).Draw(t, "per"))}
	}
	p.Refused = text("refused", "x")
	for name, field := range map[string]*bool{
		"redirect": &p.HTTPSRedirect, "hsts": &p.HSTS, "strip": &p.StripPrefix, "http2": &p.HTTP2, "proxy": &p.SendProxy, "accept": &p.AcceptProxy,
	} {
		*field = sometimes(name)
	}
	p.RewritePath, p.RewriteHost = text("rewrite path", "/", "/x", "bad", "/a%20b$1"), text("rewrite host", "inner.local", "[::1]", "a b", "%[src]")
	p.StripPath = text("strip path", "/", "/x", "/a.b/", "bad")
	p.RewriteLocation, p.RedirectRoot = text("location", "/", "/x/y", "x"), text("root", "/", "/login?x=%20", "//evil")
	for range number("cors", 1, 60) {
		p.CORS = append(p.CORS, rapid.SampledFrom([]string{"*", "null", "https://a.example", "http://[::1]:80", "a b"}).Draw(t, "origin"))
	}
	headers := []signalbox.Header{{Name: "X-A", Value: `"a" 'b' %[src] \`}, {Name: "Host", Value: "x"}, {Name: "a b", Value: "x"}, {Name: "x"}, {Name: "if", Value: "if"}}
	for range number("request headers", 1, 3) {
		p.RequestHeaders = append(p.RequestHeaders, rapid.SampledFrom(headers).Draw(t, "request header"))
	}
	for range number("response headers", 1, 3) {
		p.ResponseHeaders = append(p.ResponseHeaders, rapid.SampledFrom(headers).Draw(t, "response header"))
	}
	for range number("pages", 1, 4) {
		p.ErrorPages = append(p.ErrorPages, signalbox.ErrorPage{
			Status: rapid.SampledFrom([]int{200, 400, 401, 403, 404, 429, 500, 503, 504, 999}).Draw(t, "status"), Name: rapid.SampledFrom([]string{"whole", "body", "none"}).Draw(t, "page"),
		})
	}
	p.BackendTLS = signalbox.BackendTLS(text("tls", "insecure", "verify", "odd"))
	p.Owner = text("owner", "me", "you")
	return p
}

// drawnOptions are such that what drawn policies ask for is there, or not.
func drawnOptions(t *rapid.T, dir string) *Options {
	o := testOptions(dir)
	o.MinSlots = 4
	if rapid.Bool().Draw(t, "given") {
		o.UserLists = map[string][]User{"staff": {{"ann", "$6$a$b"}, {"bob", "$1$a$b"}}}
		o.ErrorPages = map[string][]byte{"whole": []byte("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), "body": []byte("<p>no</p>")}
	}
	if rapid.Bool().Draw(t, "prefers") {
		o.Prefer, o.Node = PreferLocal, []string{"here"}
	}
	return o
}

// Whatever Build lets through, HAProxy loads without a warning.
func TestHAProxyAcceptsWhatBuildLetsThrough(t *testing.T) {
	t.Parallel()
	draw := rapid.Custom(func(t *rapid.T) *Config {
		now := make(map[int]*signalbox.Service)
		for i := range 12 {
			now[i] = drawService(t, i)
		}
		return Build(signalbox.NewTable(slices.Collect(maps.Values(now)), nil), drawnOptions(t, "/d"), nil)
	})
	for seed := range 15 {
		c := draw.Example(seed)
		dir := shortDir(t)
		moved := *c.Options
		moved.LogPulled = !sendsRings(t)
		moved.Dir, moved.StatsSocket, moved.LogSocket = dir, dir+"/stats.sock", dir+"/log.sock"
		c.Options = &moved
		f, err := Render(DefaultTemplate(), c)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, f)
		if err := check(t, dir); err != nil {
			t.Errorf("seed %d: %v", seed, err)
			for i, line := range strings.Split(string(f.Config), "\n") {
				if strings.Contains(err.Error(), fmt.Sprintf("haproxy.cfg:%d]", i+1)) {
					t.Logf("line %d: %s", i+1, line)
				}
			}
		}
	}
}
