package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/admin"
)

// sampleWhy is what the fake controller knows of an app.
func sampleWhy(status *signalbox.Status, app string) (admin.Why, error) {
	w := admin.Why{APIVersion: admin.APIVersion, App: app, At: status.At, LabelsRead: true}
	for _, s := range status.Table.ServicesOf(app) {
		cart := whyService(s)
		cart.Since, cart.LastHit = status.At.Add(-26*time.Hour), status.At.Add(-3*time.Second)
		cart.Ways = waysOf(s, []signalbox.Standing{{
			Service: s.ID, Route: signalbox.Route{Host: "shop.local", Path: "/cart"}, Owner: "/legacy/cart:0", Why: "is older",
			Rivals: []signalbox.ServiceID{"/legacy/cart:0"},
		}}, "")
		w.Services = append(w.Services, cart)
	}
	switch app {
	case "/shop/cart":
		w.Labels = []admin.Label{
			{Label: "signalbox.0.host", Value: "shop.local", Key: "host", Form: "signalbox.N.key", State: "in force"},
			{Label: "HAPROXY_0_VHOST", Value: "old.local\x1b[2J", Key: "host", Form: "HAPROXY_N_X", State: "overridden", By: "signalbox.0.host"},
			{Label: "HAPROXY_0_STICKY", Value: "mesosphere_server_id", Key: "sticky", Form: "HAPROXY_N_X", State: "in force"},
		}
		w.Problems = []admin.Problem{{Code: "SB203", Severity: signalbox.SeverityError, App: app, Value: "shop.local/cart", Message: "shop.local/cart belongs to /legacy/cart:0, which is older", Action: "/shop/cart:0 is not reached under this name"}}
		w.History = []admin.Moment{
			{Time: status.At.Add(-time.Hour), What: admin.MomentApp, Text: "port 0 became a service"},
			{Time: status.At.Add(-time.Minute), What: admin.MomentTask, Text: "1 task down: 10.0.0.7:31544 (its check fails)"},
		}
	case "/green":
		w.LabelsRead, w.Members = false, []string{"/green-blue", "/green-green"}
	case "/stored":
		w.LabelsRead = false
	default:
		return w, fmt.Errorf("%w: no app is called %s", admin.ErrUnknown, app)
	}
	return w, nil
}

func TestAppsAreNamedLoosely(t *testing.T) {
	for in, want := range map[string]string{"/shop/cart": "/shop/cart", "shop/cart": "/shop/cart", "/shop/cart:0": "/shop/cart", "shop:12": "/shop", "/shop/": "/shop"} {
		if got := appOf(in); got != want {
			t.Errorf("appOf(%q) = %q, want %q", in, got, want)
		}
	}
}

// A way is held, shared, lost to somebody, or nobody's.
func TestWaysSayWhoHasThem(t *testing.T) {
	route := func(path string) signalbox.Route { return signalbox.Route{Host: "a.local", Path: path} }
	s := &signalbox.Service{ID: "/a:0", Routes: []signalbox.Route{route("/"), route("/lost"), route("/odd"), route("/shared")}, Listen: 10001}
	standings := []signalbox.Standing{
		{Service: s.ID, Route: route("/"), Owner: s.ID, Share: 100, Rivals: []signalbox.ServiceID{"/c:0"}},
		{Service: s.ID, Route: route("/lost"), Owner: "/b:0", Why: "is older", Rivals: []signalbox.ServiceID{"/b:0"}},
		{Service: s.ID, Route: route("/shared"), Owner: s.ID, Share: 30, Rivals: []signalbox.ServiceID{"/d:0"}},
	}
	f := func(holder signalbox.ServiceID, want ...string) {
		t.Helper()
		var got []string
		for _, w := range waysOf(s, standings, holder) {
			got = append(got, w.Way+" "+wayText(w))
		}
		names := []string{
			"a.local/ held; /c:0 asks for it too", "a.local/lost lost to /b:0, which is older", "a.local/odd not held, HAProxy can't carry it",
			"a.local/shared shared with /d:0, 30% of the requests",
		}
		if diff := cmp.Diff(append(names, want...), got); diff != "" {
			t.Errorf("ways (-want +got):\n%s", diff)
		}
	}
	f("/a:0", ":10001 held")
	f("/b:0", ":10001 lost to /b:0")
	f("", ":10001 not held, it is not bound")
}
