package discovery

import (
	"testing"
	"time"

	"signalbox"
)

// Who has a name keeps it over his own deploys, but gets no older by it than what he asks for.
func TestADeployKeepsTheAgeOfClaims(t *testing.T) {
	at := func(second int64, listen int, hosts ...string) *signalbox.Service {
		s := &signalbox.Service{ID: "/shop:0", Since: time.Unix(second, 0), Listen: listen}
		for _, h := range hosts {
			s.Routes = append(s.Routes, signalbox.Route{Host: h, Path: "/"})
		}
		return s
	}
	for name, c := range map[string]struct {
		before, now *signalbox.Service
		want        int64
	}{
		"new":              {nil, at(5, 0, "a"), 5},
		"the same names":   {at(1, 80, "a", "b"), at(5, 80, "a", "b"), 1},
		"fewer":            {at(1, 80, "a", "b"), at(5, 0, "b"), 1},
		"one more":         {at(1, 0, "a", "c"), at(5, 0, "a", "b", "c"), 5},
		"another port":     {at(1, 80, "a"), at(5, 81, "a"), 5},
		"a port":           {at(1, 0, "a"), at(5, 81, "a"), 5},
		"an older account": {at(5, 0, "a"), at(1, 0, "a"), 1},
	} {
		if got := ClaimedSince(c.before, c.now); !got.Equal(time.Unix(c.want, 0)) {
			t.Errorf("%s: since %v, want %v", name, got.Unix(), c.want)
		}
	}
}
