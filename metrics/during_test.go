package metrics

import (
	"testing"
	"time"
)

// A failure is told with what was going on: a reload before a deployment, and that before a change of tasks that nobody deployed.
func TestDuring(t *testing.T) {
	h := NewHistory(time.Minute)
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	set := func(s int, task string) {
		h.Set(at(s), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: task, State: "up"}})
	}
	h.Describe("/a:0", About{App: "/a"})
	set(0, "a.1")
	set(100, "a.2")
	h.Deploy(at(200), "/a", true)
	h.Deploy(at(205), "/b", true)
	set(201, "a.3")
	h.Reload(at(210))
	h.Deploy(at(230), "/a", false)
	about := h.About("/a:0")
	for s, want := range map[int]string{150: "", 199: "", 200: "deployment", 209: "deployment", 210: "reload", 219: "reload", 225: "deployment", 230: "deployment", 231: "change", 240: ""} {
		if got := about.during(at(s)); got != want {
			t.Errorf("after %d s: %q, want %q", s, got, want)
		}
	}
	h.Deploy(at(300), "/a", true)
	if a := h.About("/a:0"); a.during(at(9999)) != "deployment" || a.during(at(299)) != "" {
		t.Errorf("a deployment that goes on: %+v", a.Deployed)
	}
	h.Deploy(at(301), "/a", false)
	h.Deploy(at(400), "/c", true)
	if len(h.deployed) != 2 {
		t.Errorf("what ended a minute ago is remembered: %v", h.deployed)
	}
	h.Deploy(at(401), "/never-begun", false)
	if len(h.deployed) != 2 {
		t.Errorf("an end without a beginning: %v", h.deployed)
	}
}
