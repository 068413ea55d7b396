package haproxy

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// with returns a service with a policy.
func with(s *signalbox.Service, p signalbox.Policy) *signalbox.Service {
	s.Policy = p
	return s
}

// ask sends one request, with further header lines, and returns the answer.
func (l *live) ask(method, host, target string, headers ...string) (int, http.Header, string) {
	l.t.Helper()
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: " + host}, headers...)
	return raw(l.t, l.entry, strings.Join(lines, "\r\n")+"\r\nConnection: close\r\n\r\n")
}

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func networks(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// Who is not let in is not let in by any way in.
func TestAdmission(t *testing.T) {
	t.Parallel()
	var many []netip.Prefix
	for i := range 200 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
	}
	auth := &signalbox.Auth{Realm: "my realm", User: "ann", Hash: geheim(t, "6")}
	policies := map[string]signalbox.Policy{
		"refused":  {Refused: "a bad label"},
		"allowed":  {Allow: append(slices.Clone(many), networks("fd00::/8", "127.0.0.1/32")...)},
		"strange":  {Allow: append(slices.Clone(many), networks("fd00::/8", "::1/128")...)},
		"guarded":  {Auth: auth},
		"listed":   {Auth: &signalbox.Auth{Realm: "r", List: "staff"}},
		"missing":  {Auth: &signalbox.Auth{Realm: "r", List: "nobody-made-it"}},
		"unknown":  {Auth: &signalbox.Auth{Realm: "r", User: "ann", Hash: "$apr1$salt$xxxxxxxxxxxxxxxxxxxxxx"}},
		"everyone": {},
	}
	listens, bare := make(map[string]int), make(map[string]int)
	var services []*signalbox.Service
	for name, p := range policies {
		s := with(service("/"+name, name+".local/", mirror(t, name)), p)
		s.Listen = ports.Free(t)
		listens[name] = s.Listen
		tcp := with(service("/tcp-"+name, "", mirror(t, "tcp-"+name)), p)
		tcp.Mode, tcp.Listen = signalbox.TCP, ports.Free(t)
		bare[name] = tcp.Listen
		services = append(services, s, tcp)
	}
	l := startWith(t, tableOf(services...), func(o *Options) {
		o.UserLists = map[string][]User{"staff": {{"bob", geheim(t, "5")}, {"eve", geheim(t, "2b")}, {"max", geheim(t, "1")}}, "empty": {}}
	})
	for _, c := range []struct {
		name, header string
		want         int
	}{
		{"refused", "", 403},
		{"refused", basic("ann", "geheim"), 403},
		{"allowed", "", 200},
		{"strange", "", 403},
		{"guarded", "", 401},
		{"guarded", basic("ann", "geheim"), 200},
		{"guarded", basic("ann", "falsch"), 401},
		{"guarded", basic("bob", "geheim"), 401},
		{"listed", basic("bob", "geheim"), 200},
		{"listed", basic("eve", "geheim"), 200},
		{"listed", basic("ann", "geheim"), 401},
		{"missing", basic("bob", "geheim"), 403},
		{"unknown", basic("ann", "geheim"), 403},
		{"everyone", "", 200},
	} {
		for way, addr := range map[string]string{"by name": l.entry, "by port": fmt.Sprintf("127.0.0.1:%d", listens[c.name])} {
			head := "GET / HTTP/1.1\r\nHost: " + c.name + ".local\r\nConnection: close\r\n"
			if c.header != "" {
				head += c.header + "\r\n"
			}
			code, header, body := raw(t, addr, head+"\r\n")
			if code != c.want {
				t.Errorf("%s %s with %q: %d %s, want %d", c.name, way, c.header, code, body, c.want)
			}
			if code == 401 && header.Get("WWW-Authenticate") != map[string]string{"guarded": `Basic realm="my realm"`, "listed": `Basic realm="r"`}[c.name] {
				t.Errorf("%s: asked with %q", c.name, header.Get("WWW-Authenticate"))
			}
			if code == 403 && !strings.Contains(body, `"service":"\/`+c.name+`:0"`) {
				t.Errorf("%s: %s", c.name, body)
			}
			// Tasks see the password where the app chose it, and never one from the operator's list.
			if code == 200 && c.name == "guarded" && !strings.Contains(body, "authorization=Basic") ||
				code == 200 && c.name == "listed" && (strings.Contains(body, "authorization") || !strings.Contains(body, "x-forwarded-user=")) {
				t.Errorf("%s: the task sees %s", c.name, body)
			}
		}
	}
	for name, open := range map[string]bool{"refused": false, "allowed": true, "strange": false, "guarded": false, "missing": false, "everyone": true} {
		answer := everything(t, fmt.Sprintf("127.0.0.1:%d", bare[name]), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if (answer != "") != open {
			t.Errorf("tcp, %s: %q", name, answer)
		}
	}
	var codes []string
	for _, p := range l.now.Problems {
		codes = append(codes, p.Code+" "+p.App)
	}
	slices.Sort(codes)
	want := []string{"SB220 /missing", "SB221 /unknown", "SB226 /tcp-guarded", "SB226 /tcp-listed", "SB226 /tcp-missing", "SB226 /tcp-unknown"}
	if !slices.Equal(codes, want) {
		t.Errorf("the problems are %v, want %v", codes, want)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	l := start(t, tableOf(
		with(service("/slow", "slow.local/", task(t, "slow")), signalbox.Policy{RateLimit: signalbox.RateLimit{Requests: 5, Per: 10 * time.Second}}),
		with(service("/guarded", "guarded.local/", task(t, "guarded")), signalbox.Policy{
			RateLimit: signalbox.RateLimit{Requests: 3, Per: time.Minute}, Auth: &signalbox.Auth{Realm: "r", User: "ann", Hash: geheim(t, "6")},
		}),
	))
	var codes []int
	for range 8 {
		code, header, body := l.ask("GET", "slow.local", "/")
		codes = append(codes, code)
		if code == 429 && (header.Get("Retry-After") != "10" || !strings.Contains(body, "too many requests")) {
			t.Errorf("Retry-After %q %s", header.Get("Retry-After"), body)
		}
	}
	if !slices.Equal(codes, []int{200, 200, 200, 200, 200, 429, 429, 429}) {
		t.Errorf("five in ten seconds: %v", codes)
	}
	// Guesses at a password count.
	codes = nil
	for range 5 {
		code, _, _ := l.ask("GET", "guarded.local", "/", basic("ann", "falsch"))
		codes = append(codes, code)
	}
	if !slices.Equal(codes, []int{401, 401, 401, 429, 429}) {
		t.Errorf("guesses: %v", codes)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	l := start(t, tableOf(
		with(service("/some", "some.local/", task(t, "some")), signalbox.Policy{
			CORS: []string{"http://a.example:8080", "https://b.example"}, Auth: &signalbox.Auth{Realm: "r", User: "ann", Hash: geheim(t, "6")},
		}),
		with(service("/all", "all.local/", task(t, "all")), signalbox.Policy{CORS: []string{"*"}}),
	))
	for _, c := range []struct {
		host, method, origin string
		code                 int
		allow, vary          string
	}{
		{"some.local", "OPTIONS", "https://b.example", 204, "https://b.example", "Origin"},
		{"some.local", "OPTIONS", "http://a.example:8080", 204, "http://a.example:8080", "Origin"},
		{"some.local", "OPTIONS", "https://evil.example", 401, "", "Origin"},
		{"some.local", "GET", "https://b.example", 401, "https://b.example", "Origin"},
		{"some.local", "GET", "", 401, "", "Origin"},
		{"all.local", "OPTIONS", "https://b.example", 204, "*", ""},
		{"all.local", "GET", "https://b.example", 200, "*", ""},
		{"all.local", "OPTIONS", "", 200, "*", ""},
	} {
		headers := []string{"Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a, x-b"}
		if c.origin != "" {
			headers = append(headers, "Origin: "+c.origin)
		}
		code, header, body := l.ask(c.method, c.host, "/", headers...)
		if code != c.code || header.Get("Access-Control-Allow-Origin") != c.allow || header.Get("Vary") != c.vary {
			t.Errorf("%v: %d %v %s", c, code, header, body)
		}
		if code == 204 && (!strings.Contains(header.Get("Access-Control-Allow-Methods"), "PUT") || header.Get("Access-Control-Allow-Headers") != "x-a, x-b" || body != "") {
			t.Errorf("%v: %v", c, header)
		}
	}
}

// geheim returns "geheim" as crypt(3) writes it, in one of its ways.
func geheim(t *testing.T, kind string) string {
	t.Helper()
	return map[string]string{
		"1":  "$1$saltsalt$wTLsTBb/.H7e4VHujepbF0",
		"5":  "$5$saltsalt$cKRA0A5uaKu0/NNi2WMrB.mMOAVMowckrDNQ4fKUJ06",
		"6":  "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1",
		"2b": "$2b$04$abcdefghijklmnopqrstuuPWRtT5yx7FBi4dcf6ROhboeNunUrLQ.",
	}[kind]
}
