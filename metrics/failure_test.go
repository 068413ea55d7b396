package metrics

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFailure(t *testing.T) {
	for _, one := range []struct {
		state          string
		status         int16
		served, routed bool
		want           Failure
	}{
		{"----", 200, true, true, Fine},
		{"----", 404, true, true, Fine},
		{"----", 500, true, true, ServerError},
		{"LR--", 404, false, false, NoRoute},
		{"LR--", 301, false, true, Fine},
		{"PR--", 400, false, false, Refused},
		{"PR--", 403, false, true, Refused},
		{"LR--", 503, false, true, NoServer},
		{"SC--", 503, false, true, NoServer},
		{"SC--", 503, true, true, ConnectFailed},
		{"sC--", 503, true, true, ConnectFailed},
		{"sQ--", 503, false, true, QueueTimeout},
		{"SH--", 502, true, true, ServerClosed},
		{"sH--", 504, true, true, ServerTimeout},
		{"SD--", 200, true, true, ServerClosed},
		{"CD--", 200, true, true, ClientGone},
		{"CR--", 400, false, false, ClientGone},
		{"cR--", 408, false, false, ClientTimeout},
		{"DC--", 503, true, true, ServerDown},
		{"RC--", 503, true, true, HAProxyFailure},
	} {
		if got := failureOf([4]byte([]byte(one.state)), one.status, one.served, one.routed); got != one.want {
			t.Errorf("%s %d: %s, want %s", one.state, one.status, got, one.want)
		}
	}
}

func TestWords(t *testing.T) {
	for state, want := range map[string]string{
		"----": "", "SH--": "server closed before sending headers", "SC--": "server refused the connection",
		"CD--": "client closed while the answer was sent", "CH--": "client closed before the server sent headers",
		"sQ--": "request waited in the queue for too long", "sH--": "server was silent for too long before sending headers",
	} {
		if got := DecodeTermination([4]byte([]byte(state))).Words(); got != want {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
	}
}

// A failure says in which state the orchestrator had the task at that moment.
func TestFailuresByState(t *testing.T) {
	h := NewHistory(time.Hour)
	up := epoch.Add(-time.Hour)
	h.Set(up, "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "t1", State: "up"}})
	a := NewAggregator(AggregatorConfig{Directory: h})
	feed(a, epoch, line(1, "web", 0, "/a:0", "10.0.0.1:1", 503, 2500))
	h.Set(up.Add(time.Second), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "t1", State: "draining"}})
	feed(a, epoch, line(1, "web", 1, "/a:0", "10.0.0.1:1", 503, 2500), line(1, "web", 2, "/a:0", "10.0.0.1:1", 200, 2500),
		strings.Replace(line(1, "web", 3, "/a:0", "10.0.0.1:1", 502, 2500), "---- ", "SH-- ", 1), line(1, "web", 4, "", "-:-", 404, 2500))
	got := slices.Concat(a.Snapshot(epoch).Service("/a:0").Failures, a.Snapshot(epoch).Service(NoService).Failures)
	want := []FailureCount{{"server_closed", "draining", "", 1}, {"server_error", "draining", "", 1}, {"server_error", "up", "", 1}, {"no_route", "", "", 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A failure says what was going on: whether tasks had just come or gone, or HAProxy had just been told to load another configuration.
func TestFailuresDuringChanges(t *testing.T) {
	h := NewHistory(time.Hour)
	a := NewAggregator(AggregatorConfig{Directory: h})
	one, two := Placement{Addr: "10.0.0.1:1", Task: "a.1", State: "up"}, Placement{Addr: "10.0.0.2:1", Task: "a.2", State: "up"}
	seq := 0
	failAt := func(after time.Duration) {
		l := line(1, "web", seq, "/a:0", "10.0.0.1:1", 503, 10)
		seq++
		feed(a, epoch, strings.Replace(l, "1795230849279039", fmt.Sprint(epoch.Add(after).UnixMicro()), 1))
	}
	h.Set(epoch, "/a:0", []Placement{one}) // seen for the first time: no change
	failAt(time.Second)
	h.Set(epoch.Add(10*time.Second), "/a:0", []Placement{one, two})
	failAt(9 * time.Second) // its line came late
	failAt(11 * time.Second)
	failAt(39 * time.Second)
	failAt(41 * time.Second)
	one.State = "draining" // a state is not a change: it has a label of its own
	h.Set(epoch.Add(50*time.Second), "/a:0", []Placement{one, two})
	failAt(51 * time.Second)
	h.Set(epoch.Add(60*time.Second), "/a:0", []Placement{two})
	h.Reload(epoch.Add(62 * time.Second))
	failAt(61 * time.Second)
	failAt(63 * time.Second)
	failAt(73 * time.Second)
	got := map[string]uint64{}
	for _, f := range a.Snapshot(epoch).Service("/a:0").Failures {
		got[f.During] += f.Count
	}
	if diff := cmp.Diff(map[string]uint64{"": 4, "change": 4, "reload": 1}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
