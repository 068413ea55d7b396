package haproxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signalbox"
	"signalbox/test/ports"
)

// echo is a real server that answers with the request as it saw it, and redirects to what X-Location says.
func echo(t *testing.T, name string) signalbox.Endpoint {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.Header.Get("X-Location"); to != "" {
			w.Header()["Location"] = []string{to}
			w.WriteHeader(http.StatusFound)
			return
		}
		w.Header().Set("X-Task", "said by the task")
		fmt.Fprintf(w, "%s %s %s", r.Host, r.RequestURI, r.Header.Get("X-Set"))
	}))
	t.Cleanup(s.Close)
	return signalbox.Endpoint{Task: name, Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), State: signalbox.Up}
}

func TestPathsAndHostsAreRewritten(t *testing.T) {
	t.Parallel()
	strip := with(service("/strip", "strip.local/api strip.local/api/v2 strip.local/a.b strip.local/", echo(t, "strip")), signalbox.Policy{StripPrefix: true})
	strip.Routes = append(strip.Routes, signalbox.Route{Host: "strip.local", Path: "/only", Match: signalbox.Exact})
	rewrite := with(service("/rewrite", "rewrite.local/old", echo(t, "rewrite")), signalbox.Policy{RewritePath: "/new%20/x", RewriteHost: "inner.local"})
	all := with(service("/all", "all.local/", echo(t, "all")), signalbox.Policy{RewritePath: "/base"})
	slash := with(service("/slash", "slash.local/x/y", echo(t, "slash")), signalbox.Policy{RewritePath: "/"})
	strip.Listen = ports.Free(t)
	l := start(t, tableOf(strip, rewrite, all, slash))
	for _, c := range []struct{ host, target, want string }{
		{"strip.local", "/api", "strip.local / "},
		{"strip.local", "/api/", "strip.local / "},
		{"strip.local", "/api?a=/api/b", "strip.local /?a=/api/b "},
		{"strip.local", "/api/x/api/y?q", "strip.local /x/api/y?q "},
		{"strip.local", "/api/api/api/z", "strip.local /api/api/z "},
		{"strip.local", "/api/v2/x", "strip.local /x "},
		{"strip.local", "/api/v2", "strip.local / "},
		{"strip.local", "/api/v2x", "strip.local /v2x "},
		{"strip.local", "/apis/x", "strip.local /apis/x "},
		{"strip.local", "/a.b/x", "strip.local /x "},
		{"strip.local", "/aXb/x", "strip.local /aXb/x "},
		{"strip.local", "/only", "strip.local / "},
		{"strip.local", "/only/x", "strip.local /only/x "},
		{"strip.local", "/API/x", "strip.local /API/x "},
		{"strip.local", "/other", "strip.local /other "},
		{"rewrite.local", "/old", "inner.local /new%20/x "},
		{"rewrite.local", "/old/", "inner.local /new%20/x/ "},
		{"rewrite.local", "/old/y?z", "inner.local /new%20/x/y?z "},
		{"all.local", "/y?z", "all.local /base/y?z "},
		{"all.local", "/", "all.local /base/ "},
		{"slash.local", "/x/y/z", "slash.local /z "},
		{"slash.local", "/x/y", "slash.local / "},
	} {
		if code, _, body := l.ask("GET", c.host, c.target); code != 200 || body != c.want {
			t.Errorf("%s%s: %d %q, want %q", c.host, c.target, code, body, c.want)
		}
	}
	if _, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", strip.Listen), "GET /api/x HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n"); body != "y /x " {
		t.Errorf("by port: %q", body)
	}
}

func TestHeadersAreSet(t *testing.T) {
	t.Parallel()
	const odd = `a "b" 'c' \x %[src] %ci %% ${HOME} #; { } é`
	l := start(t, tableOf(with(service("/shop", "shop.local/", echo(t, "shop")), signalbox.Policy{
		RequestHeaders:  []signalbox.Header{{Name: "X-Set", Value: "first"}, {Name: "x-set", Value: odd}, {Name: "Host", Value: "evil"}, {Name: "Content-Length", Value: "9"}},
		ResponseHeaders: []signalbox.Header{{Name: "X-Task", Value: odd}, {Name: "Content-Security-Policy", Value: "default-src 'self'"}, {Name: "X-Bad", Value: "a\nb"}},
	})))
	code, header, body := l.ask("GET", "shop.local", "/", "X-Set: from the client")
	if code != 200 || body != "shop.local / "+odd || header.Get("X-Task") != odd || header.Get("Content-Security-Policy") != "default-src 'self'" || header.Get("X-Bad") != "" {
		t.Errorf("%d %v %s", code, header, body)
	}
	if len(l.now.Problems) != 3 {
		t.Errorf("the problems are %v", l.now.Problems)
	}
}

func TestLocationsAreRewritten(t *testing.T) {
	t.Parallel()
	l := start(t, tableOf(with(service("/shop", "shop.local/app", echo(t, "shop")), signalbox.Policy{StripPrefix: true, RewriteLocation: "/app%20"})))
	for location, want := range map[string]string{
		"/":                         "/app%20/",
		"/login?next=/x":            "/app%20/login?next=/x",
		"http://shop.local/x":       "http://shop.local/app%20/x",
		"https://SHOP.local:8443/x": "https://SHOP.local:8443/app%20/x",
		"https://shop.local":        "https://shop.local/app%20",
		"//shop.local/x":            "//shop.local/x",
		"https://other.local/x":     "https://other.local/x",
		"https://shop.local.evil/x": "https://shop.local.evil/x",
		"https://evil@shop.local/x": "https://evil@shop.local/x",
		"//evil/x":                  "//evil/x",
		"x/y":                       "x/y",
		"ftp://shop.local/x":        "ftp://shop.local/x",
	} {
		if code, header, _ := l.ask("GET", "shop.local", "/app/y", "X-Location: "+location); code != 302 || header.Get("Location") != want {
			t.Errorf("%s: %d %q, want %q", location, code, header.Get("Location"), want)
		}
	}
}

func TestRedirectsAndHSTS(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"an HTTPS entry": true, "TLS ends before": false} {
		t.Run(name, func(t *testing.T) { redirects(t, own) })
	}
}

// redirects holds what is done with plain requests and with those over TLS, with an HTTPS entry of our own or without.
func redirects(t *testing.T, own bool) {
	closed := with(service("/secure", "secure.local/", echo(t, "secure")), signalbox.Policy{
		HTTPSRedirect: true, HSTS: true, Auth: &signalbox.Auth{Realm: "r", User: "ann", Hash: geheim(t, "6")},
	})
	closed.Listen = ports.Free(t)
	root := with(service("/root", "root.local/", echo(t, "root")), signalbox.Policy{RedirectRoot: "/app%20/"})
	suffix := ""
	l := startWith(t, tableOf(closed, root), func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if own {
			certify(t, nil)(o)
			suffix = fmt.Sprintf(":%d", o.HTTPSPort())
		}
	})
	if own {
		if code, body, _, _ := secure(t, l.options.HTTPSBind[0], "https://root.local/x"); code != 200 || body != "root.local /x " {
			t.Errorf("over TLS: %d %s", code, body)
		}
	}
	const hsts = "Strict-Transport-Security"
	code, header, _ := l.ask("GET", "SECURE.local:8080", "/x?y=z")
	if code != 301 || header.Get("Location") != "https://secure.local"+suffix+"/x?y=z" || header.Get(hsts) != "" {
		t.Errorf("plain, by name: %d %v", code, header)
	}
	code, header, _ = l.ask("GET", "secure.local", "/x", "X-Forwarded-Proto: https")
	if code != 401 || header.Get(hsts) != "max-age=15768000" {
		t.Errorf("https, without a password: %d %v", code, header)
	}
	code, header, _ = l.ask("GET", "secure.local", "/x", "X-Forwarded-Proto: https", basic("ann", "geheim"))
	if code != 200 || header.Get(hsts) != "max-age=15768000" {
		t.Errorf("https: %d %v", code, header)
	}
	code, header, _ = raw(t, fmt.Sprintf("127.0.0.1:%d", closed.Listen), "GET / HTTP/1.1\r\nHost: secure.local\r\nConnection: close\r\n\r\n")
	if code != 401 || header.Get(hsts) != "" {
		t.Errorf("plain, by port: %d %v", code, header)
	}
	if code, header, _ := l.ask("GET", "root.local", "/?q"); code != 301 || header.Get("Location") != "/app%20/" {
		t.Errorf("the root: %d %v", code, header)
	}
	if code, _, body := l.ask("GET", "root.local", "/x"); code != 200 || body != "root.local /x " {
		t.Errorf("not the root: %d %s", code, body)
	}
}

func TestErrorPages(t *testing.T) {
	t.Parallel()
	whole := "HTTP/1.1 503 Away\r\nContent-Type: text/plain\r\nX-Page: whole\r\n\r\naway"
	pages := []signalbox.ErrorPage{{Status: 503, Name: "away.http"}, {Status: 403, Name: "no.json"}, {Status: 401, Name: "who.txt"}, {Status: 429, Name: "slow"}}
	l := startWith(t, tableOf(
		with(service("/whole", "whole.local/"), signalbox.Policy{ErrorPages: append(pages, signalbox.ErrorPage{Status: 302, Name: "slow"}, signalbox.ErrorPage{Status: 500, Name: "none"})}),
		with(service("/body", "body.local/"), signalbox.Policy{ErrorPages: []signalbox.ErrorPage{{Status: 503, Name: "slow"}}}),
		with(service("/refused", "refused.local/"), signalbox.Policy{Refused: "x", ErrorPages: pages}),
		with(service("/strange", "strange.local/", echo(t, "x")), signalbox.Policy{Allow: networks("10.0.0.0/8"), ErrorPages: pages}),
		with(service("/asked", "asked.local/", echo(t, "x")), signalbox.Policy{
			Auth: &signalbox.Auth{Realm: "r", User: "ann", Hash: geheim(t, "6")}, RateLimit: signalbox.RateLimit{Requests: 2, Per: 1e9 * 60}, ErrorPages: pages,
		}),
	), func(o *Options) {
		o.ErrorPages = map[string][]byte{
			"away.http": []byte(whole), "no.json": []byte(`{"no":1}`), "who.txt": []byte("who?"), "slow": []byte("<p>" + strings.Repeat("slow ", 2000)),
		}
	})
	for _, c := range []struct {
		host   string
		code   int
		header string
		value  string
		body   string
	}{
		{"whole.local", 503, "X-Page", "whole", "away"},
		{"body.local", 503, "Retry-After", "5", "<p>slow"},
		{"body.local", 503, "Content-Type", "text/html", "<p>slow"},
		{"refused.local", 403, "Content-Type", "application/json", `{"no":1}`},
		{"strange.local", 403, "Content-Type", "application/json", `{"no":1}`},
		{"asked.local", 401, "WWW-Authenticate", `Basic realm="r"`, "who?"},
		{"asked.local", 401, "Content-Type", "text/plain", "who?"},
		{"asked.local", 429, "Content-Type", "text/html", "<p>slow"},
	} {
		if code, header, body := l.ask("GET", c.host, "/"); code != c.code || header.Get(c.header) != c.value || !strings.HasPrefix(body, c.body) {
			t.Errorf("%s: %d %v %.50s, want %d", c.host, code, header, body, c.code)
		}
	}
	if len(l.now.Problems) != 2 {
		t.Errorf("the problems are %v", l.now.Problems)
	}
	if _, err := os.Stat(filepath.Join(l.options.Dir, "page.slow")); err != nil {
		t.Error(err)
	}
}

// Who calls and the header fields of the label stand in the log, encoded, cut, and as the client sent them: also of requests that are refused.
func TestCallersAndHeadersAreLogged(t *testing.T) {
	t.Parallel()
	plain := service("/plain", "plain.local/", echo(t, "plain"))
	shop := with(service("/shop", "shop.local/", echo(t, "shop")), signalbox.Policy{
		LogHeaders: []string{"x-cart", "x-set"}, RequestHeaders: []signalbox.Header{{Name: "X-Set", Value: "ours"}},
	})
	shut := with(service("/shut", "shut.local/", echo(t, "shut")), signalbox.Policy{LogHeaders: []string{"x-cart"}, Refused: "closed"})
	l := startWith(t, tableOf(plain, shop, shut), func(o *Options) {
		o.CallerHeader = "X-Caller"
		o.LogFormat = `%{+Q}[var(txn.service)] %ST %{+Q}[var(txn.caller),bytes(0,128),url_enc] %{+Q}[var(txn.headers)]`
	})
	long := strings.Repeat("<", 200)
	for _, c := range []struct {
		host    string
		headers []string
		want    string
	}{
		{"plain.local", nil, `"/plain:0" 200 "" ""`},
		{"plain.local", []string{"X-Caller: /shop/web", "X-Cart: 7"}, `"/plain:0" 200 "%2Fshop%2Fweb" ""`},
		{"plain.local", []string{"X-Caller: a\" \"b\x80,é"}, `"/plain:0" 200 "a%22%20%22b%80%2C%C3%A9" ""`},
		{"plain.local", []string{"X-Caller: " + long}, `"/plain:0" 200 "` + strings.Repeat("%3C", 128) + `" ""`},
		{"shop.local", nil, `"/shop:0" 200 "" "x-cart=&x-set="`},
		{"shop.local", []string{"X-Cart: a&b=c d", "X-Set: theirs"}, `"/shop:0" 200 "" "x-cart=a%26b%3Dc%20d&x-set=theirs"`},
		{"shop.local", []string{"X-Cart: " + long}, `"/shop:0" 200 "" "x-cart=` + strings.Repeat("%3C", 128) + `&x-set="`},
		{"shut.local", []string{"X-Cart: 8"}, `"/shut:0" 403 "" "x-cart=8"`},
	} {
		l.ask("GET", c.host, "/", c.headers...)
		eventually(t, "the log says "+c.want, func() bool { return l.logged(c.want) })
	}
}
