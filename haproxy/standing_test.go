package haproxy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// Who has a route, who shares it, and who has lost it to whom and why.
func TestStandingsSayWhoHasARoute(t *testing.T) {
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	cart, shared := signalbox.Route{Host: "shop.local", Path: "/cart"}, signalbox.Route{Host: "shop.local", Path: "/"}
	service := func(id signalbox.ServiceID, since time.Time, weight int, r signalbox.Route) *signalbox.Service {
		s := &signalbox.Service{ID: id, App: string(id[:2]), Mode: signalbox.HTTP, Since: since, Routes: []signalbox.Route{r}}
		if weight >= 0 {
			s.Policy.Weight = &weight
		}
		return s
	}
	table := signalbox.NewTable([]*signalbox.Service{
		service("/a:0", day, -1, cart), service("/b:0", day.Add(time.Hour), -1, cart),
		service("/c:0", day.Add(time.Hour), 30, shared), service("/d:0", day, 10, shared),
	}, nil)
	got := Build(table, &Options{}, nil).Standings()
	want := []signalbox.Standing{
		{Service: "/c:0", Route: shared, Owner: "/c:0", Share: 75, Rivals: []signalbox.ServiceID{"/d:0"}},
		{Service: "/d:0", Route: shared, Owner: "/d:0", Share: 25, Rivals: []signalbox.ServiceID{"/c:0"}},
		{Service: "/a:0", Route: cart, Owner: "/a:0", Share: 100, Rivals: []signalbox.ServiceID{"/b:0"}},
		{Service: "/b:0", Route: cart, Owner: "/a:0", Why: "is older", Rivals: []signalbox.ServiceID{"/a:0"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
	if lost := []bool{got[0].Lost(), got[3].Lost()}; lost[0] || !lost[1] {
		t.Errorf("lost: %v, want false and true", lost)
	}
}
