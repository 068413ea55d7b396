package haproxy

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"signalbox"
)

var update = flag.Bool("update", false, "write the golden files")

// goldens are tables that reach every part of the template.
func goldens() map[string]*signalbox.Table {
	web := service("/shop/web", "shop.local/ *.shop.local/api", tasks(4)...)
	for i, state := range []signalbox.State{signalbox.Up, signalbox.Suspect, signalbox.Down, signalbox.Draining} {
		web.Endpoints[i].State = state
	}
	web.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health?full", Interval: 5 * time.Second, Timeout: time.Second, Fall: 2}
	web.Listen = 10000
	db := service("/shop/db", "", tasks(1)...)
	db.Mode, db.Listen, db.Check.Kind = signalbox.TCP, 10001, signalbox.CheckOff
	odd := service("/odd_one", "odd.local/", tasks(1)...)
	return map[string]*signalbox.Table{"empty": tableOf(), "services": tableOf(web, db, odd), "ways": everyWay()}
}

// everyWay is a table that reaches every way in, with the options of openEveryWay.
func everyWay() *signalbox.Table {
	web := at(service("/web", "web.local/ named.web.local/", tasks(1)...), 10000)
	web.Policy.TLS = "web"
	db := at(service("/db", "", tasks(1)...), 10001)
	db.Mode = signalbox.TCP
	own := service("/own", "own.local/ *.own.local/", tasks(1)...)
	own.Mode, own.Policy.Passthrough = signalbox.TCP, true
	secret := at(service("/secret", "near.own.local/", tasks(1)...), 10003)
	secret.Policy.PortTLS, secret.Policy.TLS = true, "web"
	proxied := at(service("/proxied", "", tasks(1)...), 20000)
	proxied.Mode, proxied.Policy.AcceptProxy, proxied.Policy.PortTLS, proxied.Policy.BindAddress = signalbox.TCP, true, true, netip.MustParseAddr("127.0.0.2")
	return tableOf(web, db, own, secret, proxied)
}

func openEveryWay(o *Options) {
	o.HTTPSBind, o.AppIDBind, o.HealthBind = []string{"127.0.0.1:18443"}, []string{"127.0.0.1:19091"}, []string{"127.0.0.1:19090"}
	o.ServicePorts = PortRange{10000, 10009}
	o.Certificates = []Certificate{{"other", []string{"*.web.local", "other.local"}}, {"web", []string{"web.local"}}}
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	o.User, o.Group, o.StatsGID = "haproxy", "haproxy", 996
}

func TestRenderedFiles(t *testing.T) {
	for name, table := range goldens() {
		t.Run(name, func(t *testing.T) {
			o := testOptions("/run/signalbox")
			o.MinSlots = 4
			if name == "ways" {
				openEveryWay(o)
			}
			f, err := Render(DefaultTemplate(), Build(table, o, nil))
			if err != nil {
				t.Fatal(err)
			}
			got := &txtar.Archive{}
			for _, m := range f.Maps {
				got.Files = append(got.Files, txtar.File(m))
			}
			got.Files = append(got.Files, txtar.File{Name: "haproxy.cfg", Data: f.Config})
			path := filepath.Join("testdata", name+".txtar")
			if *update {
				if err := os.WriteFile(path, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(txtar.Format(want)), string(txtar.Format(got))); diff != "" {
				t.Errorf("(-want +got), -update accepts it:\n%s", diff)
			}
		})
	}
}

func TestUnchangedBackendsKeepTheirBytes(t *testing.T) {
	o := testOptions("/d")
	tmpl := DefaultTemplate()
	table := fleet(20, 2)
	c := Build(table, o, nil)
	if _, err := Render(tmpl, c); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		table = changed(table, i, func(s *signalbox.Service) { s.Endpoints = tasks(i % 5) })
		c = Build(table, o, c)
		warm, err := Render(tmpl, c)
		if err != nil {
			t.Fatal(err)
		}
		cold, err := Render(DefaultTemplate(), c)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(cold.Config, warm.Config) {
			t.Fatalf("(-cold +warm):\n%s", cmp.Diff(string(cold.Config), string(warm.Config)))
		}
	}
}

func TestVerifySeesEveryCut(t *testing.T) {
	f, err := Render(DefaultTemplate(), sample())
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(f.Config); err != nil {
		t.Error(err)
	}
	for i := range f.Config {
		if Verify(f.Config[:i]) == nil {
			t.Fatalf("cut at %d of %d it is still whole", i, len(f.Config))
		}
	}
	if Verify(bytes.Replace(f.Config, []byte("web"), []byte("wbe"), 1)) == nil {
		t.Error("a changed byte goes unseen")
	}
}

func TestAppAtLeadsBackToTheApp(t *testing.T) {
	table := tableOf(service("/shop", "shop.local/"), service("/a \"b\"\n", ""), service("/odd_one", ""))
	table.Services[0].ID = "/safe:0"
	table.Services[0].Listen = 10000
	f, err := Render(DefaultTemplate(), Build(table, testOptions("/d"), nil))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"global": "", "frontend http from http-entry": "", "backend no_path from http-base": "",
		"backend shop:0 from http-service": "/shop", "frontend port_10000 from http-entry": "/a \"b\"\n",
	} {
		before, _, ok := strings.Cut("\n"+string(f.Config), "\n"+line+"\n")
		if !ok {
			t.Fatalf("no line %q", line)
		}
		n := strings.Count(before, "\n") + 1
		for at := n; at < n+2; at++ {
			if got := AppAt(f.Config, at); got != want {
				t.Errorf("line %d, %q: %q, want %q", at, line, got, want)
			}
		}
	}
}

func TestWordsAreOneWord(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "[::1]:80": "[::1]:80", "a b": "'a b'", "a#b": "'a#b'", `a"$b\`: `'a"$b\'`, "": "''",
		"a'b": `'a'\''b'`, "'": `''\'''`, "a\nb": "'a_b'", "a\r\x00": "'a__'", "%[src]": "'%[src]'",
	} {
		if got := Word(in).String(); got != want {
			t.Errorf("%q prints as %s, want %s", in, got, want)
		}
	}
}

func TestBrokenTemplatesAreRefused(t *testing.T) {
	backend := `{{define "backend"}}backend {{.Name}}{{end}}`
	for text, want := range map[string]string{
		"":                                  "x.tmpl:1: it writes no frontend",
		"global\n":                          "x.tmpl:1: it writes no frontend",
		"a\nb{{.Nope}}" + backend:           "x.tmpl:2:3: executing",
		"\n{{if}}" + backend:                "x.tmpl:2:",
		"{{env \"HOME\"}}" + backend:        `function "env" not defined`,
		`{{define "backend"}}{{.X}}{{end}}`: "executing \"backend\"",
		`{{define "backend"}}{{.CheckPath}}{{end}}`:                                                                "there is no .CheckPath any more: where .HTTPCheck holds write {{template \"probe\" .}}",
		`{{define "backend"}}{{with .Name}}{{$.CheckFall}}{{end}}{{end}}`:                                          "there is no .CheckFall any more: ",
		`{{define "backend"}}{{.CheckPathology}}{{end}}`:                                                           "can't evaluate field CheckPathology",
		`{{define "backend"}}{{end}}{{define "r"}}aaaaaaaaaaaaaaaaaaaaaaaa{{template "r"}}{{end}}{{template "r"}}`: "exceeded maximum template depth",
	} {
		_, err := ParseTemplate("x.tmpl", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := LoadTemplate(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a template that is not there was read")
	}
}

func TestOptionsThatHAProxyCannotExpress(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"relative directory": func(o *Options) { o.Dir = "x" },
		"space in directory": func(o *Options) { o.Dir = "/a b" },
		"no entry":           func(o *Options) { o.HTTPBind = nil },
		"entry without port": func(o *Options) { o.HTTPBind = []string{"127.0.0.1"} },
		"entry with a name":  func(o *Options) { o.HTTPBind = []string{"localhost:80"} },
		"service bind":       func(o *Options) { o.ServiceBind = "x\ny" },
		"log format":         func(o *Options) { o.LogFormat = "a'b" },
		"long socket":        func(o *Options) { o.StatsSocket = "/" + strings.Repeat("x", 120) },
		"user":               func(o *Options) { o.User = "a\nb" },
		"log to a name":      func(o *Options) { o.LogAlso = "logs.local:514" },
		"log without a port": func(o *Options) { o.LogAlso = "10.0.0.5" },
		"log to a file here": func(o *Options) { o.LogAlso = "dev/log" },
		"log elsewhere":      func(o *Options) { o.LogAlso = "/dev/log local0" },
	} {
		o := testOptions("/d")
		change(o)
		if _, err := Render(DefaultTemplate(), Build(nil, o, nil)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzVerifyAndAppAt(f *testing.F) {
	f.Add([]byte("# app /x\nbackend x\n# sha256 00\n"), 2)
	f.Add([]byte("# app \"\\n\"\n\n\n"), 9)
	f.Fuzz(func(_ *testing.T, cfg []byte, line int) {
		_ = Verify(cfg)
		_ = AppAt(cfg, line)
	})
}

// A text's sum is the same whatever was summed up before it.
func TestPrefixSums(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var p prefixSums
		var last []byte
		for range rapid.IntRange(1, 6).Draw(rt, "texts") {
			text := bytes.Clone(last)
			if n := rapid.IntRange(0, 5*sumChunk).Draw(rt, "length"); n < len(text) {
				text = text[:n]
			} else {
				text = append(text, bytes.Repeat([]byte{'x'}, n-len(text))...)
			}
			if len(text) > 0 && rapid.Bool().Draw(rt, "changed") {
				text[rapid.IntRange(0, len(text)-1).Draw(rt, "at")]++
			}
			if got := p.of(text, last); got != sha256.Sum256(text) {
				rt.Fatalf("the sum of %d bytes after %d others is wrong", len(text), len(last))
			}
			last = slices.Concat(text, []byte("the trailer"))
		}
	})
}
