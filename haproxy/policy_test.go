package haproxy

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"signalbox"
)

// policies has one value for each field of a policy.
func policies() map[string]any {
	n := 3
	return map[string]any{
		"Priority": 3, "Weight": &n, "RoutePatterns": []string{"/x/{id}"}, "SLO": signalbox.SLO{Objective: .9}, "Log": "off", "Trace": "on",
		"Owner": "me", "Docs": "https://x", "TLS": "x", "Passthrough": true, "PortTLS": true, "BindAddress": netip.MustParseAddr("10.0.0.1"),
		"AcceptProxy": true, "TaskPort": 80,

		"Balance": "leastconn", "Sticky": "C", "SlowStart": time.Minute, "MaxConn": 3, "Timeout": time.Minute, "ConnectTimeout": time.Second,
		"Retries": &n, "Allow": []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		"Auth":      &signalbox.Auth{Realm: "r", User: "ann", Hash: "$6$a$b"},
		"RateLimit": signalbox.RateLimit{Requests: 3, Per: time.Second}, "Refused": "x", "HTTPSRedirect": true, "HSTS": true, "StripPrefix": true,
		"StripPath":   "/y",
		"RewritePath": "/x", "RewriteHost": "x", "RewriteLocation": "/x", "RedirectRoot": "/x", "CORS": []string{"*"},
		"RequestHeaders": []signalbox.Header{{Name: "x", Value: "y"}}, "ResponseHeaders": []signalbox.Header{{Name: "x", Value: "y"}},
		"ErrorPages": []signalbox.ErrorPage{{Status: 503, Name: "p"}}, "BackendTLS": signalbox.BackendVerified, "HTTP2": true, "SendProxy": true,
		"Raw": []string{"option http-server-close"}, "LogHeaders": []string{"x-cart"},
	}
}

// elsewhere are the fields that other sections of the file, the maps or other rooms read.
var elsewhere = []string{
	"Priority", "Weight", "RoutePatterns", "SLO", "Log", "Trace", "Owner", "Docs", "TLS", "Passthrough", "PortTLS", "BindAddress", "AcceptProxy",
	"TaskPort",
}

// settings are the fields that maps of their own hold, as long as the backend's section says nothing else of the service.
var settings = []string{"Timeout", "HTTPSRedirect", "HSTS"}

// What a backend's section says takes a reload, what a map says does not, and whatever else changes does not touch the backend.
func TestWhatOfAPolicyTakesAReload(t *testing.T) {
	o := testOptions("/d")
	o.ErrorPages = map[string][]byte{"p": []byte("page")}
	plain := service("/shop", "shop.local/x")
	base := Build(tableOf(plain), o, nil)
	values := policies()
	for i := range reflect.TypeFor[signalbox.Policy]().NumField() {
		name := reflect.TypeFor[signalbox.Policy]().Field(i).Name
		value, ok := values[name]
		if !ok {
			t.Errorf("the field %s has no value here", name)
			continue
		}
		s := *plain
		reflect.ValueOf(&s.Policy).Elem().FieldByName(name).Set(reflect.ValueOf(value))
		c := Build(tableOf(&s), o, base)
		if len(c.Problems) > 0 && !slices.Contains(elsewhere, name) {
			t.Errorf("%s: %v", name, c.Problems)
		}
		if slices.Contains(elsewhere, name) {
			if c.Backends[0] != base.Backends[0] {
				t.Errorf("%s: the backend is another one: %v", name, c.Backends[0].Policy)
			}
			continue
		}
		want := []Reason{PolicyChanged}
		if slices.Contains(settings, name) {
			want = nil
		}
		if got := Diff(base, c); !slices.Equal(got.Reasons, want) || len(got.Commands) != 1-len(want) {
			t.Errorf("%s: the plan is %v", name, got)
		}
		if still := Applied(base, c); !slices.Equal(Diff(still, c).Reasons, want) {
			t.Errorf("%s: without the reload, the rest needs %v", name, Diff(still, c).Reasons)
		}
		// The same again, in another value: nothing changes.
		again := s
		again.Endpoints = []signalbox.Endpoint{}
		if d := Build(tableOf(&again), o, c); d.Backends[0] != c.Backends[0] {
			t.Errorf("%s: an equal policy makes another backend", name)
		}
		// It survives the controller.
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var kept Config
		if err := json.Unmarshal(text, &kept); err != nil {
			t.Fatal(err)
		}
		if d := Build(tableOf(&s), o, &kept); len(Diff(&kept, d).Reasons) > 0 {
			t.Errorf("%s: after a restart: %v", name, Diff(&kept, d).Reasons)
		}
	}
}

// Other options may make another backend of the same service.
func TestOptionsChangeWhatBecomesOfAService(t *testing.T) {
	s := with(service("/shop", "shop.local/", signalbox.Endpoint{Task: "t", Host: "here", Addr: netip.MustParseAddrPort("10.0.0.1:80"), State: signalbox.Up}),
		signalbox.Policy{Auth: &signalbox.Auth{Realm: "r", List: "staff"}})
	without := testOptions("/d")
	c := Build(tableOf(s), without, nil)
	if c.Backends[0].Policy.Refused == "" || len(c.Problems) != 1 {
		t.Errorf("without the list: %v %v", c.Backends[0].Policy, c.Problems)
	}
	given := testOptions("/d")
	given.UserLists = map[string][]User{"staff": {{"ann", "$6$a$b"}}}
	given.Prefer, given.Node = PreferLocal, []string{"here"}
	d := Build(c.tableOf(), given, c)
	if d.Backends[0].Policy.Refused != "" || len(d.Problems) != 0 || d.Backends[0].Slots[0].Weight != LocalWeight {
		t.Errorf("with the list: %v %v", d.Backends[0], d.Problems)
	}
	tmpl := DefaultTemplate()
	for _, x := range []*Config{c, d} {
		f, err := Render(tmpl, x)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := Render(DefaultTemplate(), x)
		if err != nil || string(f.Config) != string(fresh.Config) {
			t.Errorf("what was rendered before is taken over: %v", err)
		}
	}
}

// tableOf returns the table that a Config was built from, with the same pointers.
func (c *Config) tableOf() *signalbox.Table { return &signalbox.Table{Services: c.made.services} }
