package devcluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listen opens an event stream by hand, so that each byte is seen.
func listen(t *testing.T, base, query string) *bufio.Reader {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "GET /v2/events%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", query, u.Host)
	return bufio.NewReader(c)
}

func headers(t *testing.T, r *bufio.Reader) (string, http.Header) {
	t.Helper()
	status, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return strings.TrimSpace(status), h
		}
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		h.Add(k, v)
	}
}

// frame reads the next event; heartbeats before it are skipped.
func frame(t *testing.T, r *bufio.Reader) (string, map[string]any) {
	t.Helper()
	line := func() string {
		s, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := line()
	for first == "\r\n" {
		first = line()
	}
	data, end := line(), line()
	kind, ok1 := strings.CutPrefix(first, "event: ")
	body, ok2 := strings.CutPrefix(data, "data: ")
	if !ok1 || !ok2 || end != "\r\n" || !strings.HasSuffix(kind, "\r\n") || !strings.HasSuffix(body, "\r\n") {
		t.Fatalf("not a frame: %q %q %q", first, data, end)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	if v["eventType"] != strings.TrimSpace(kind) {
		t.Errorf("event %q has the type %v", kind, v["eventType"])
	}
	return strings.TrimSpace(kind), v
}

func TestStreamIsByteForByteMarathons(t *testing.T) {
	s := start(t, Config{Virtual: true, Heartbeat: 50 * time.Millisecond})
	r := listen(t, s.URL(), "")
	status, h := headers(t, r)
	if status != "HTTP/1.1 200 OK" || h.Get("Content-Type") != "text/event-stream;charset=utf-8" || h.Get("Connection") != "close" || h.Get("Transfer-Encoding") != "" {
		t.Errorf("%s %v", status, h)
	}
	kind, v := frame(t, r)
	if kind != "event_stream_attached" || v["remoteAddress"] != "127.0.0.1" {
		t.Errorf("the first frame is %s %v", kind, v)
	}
	beat := make([]byte, 4)
	for n := range beat {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		beat[n] = b
	}
	if string(beat) != "\r\n\r\n" {
		t.Errorf("two heartbeats are %q", beat)
	}
}

func TestStreamWantsItsExactAccept(t *testing.T) {
	s := start(t, Config{Virtual: true})
	for _, accept := range []string{"", "*/*", "text/event-stream, */*"} {
		must(t, http.StatusMethodNotAllowed, ask(t, "GET", s.URL()+"/v2/events", "", "Accept", accept))
	}
}

func TestEventsOfACreate(t *testing.T) {
	s := start(t, Config{Virtual: true})
	r := listen(t, s.URL(), "")
	headers(t, r)
	frame(t, r)
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps",
		`{"id":"web","cmd":"sleep 1","healthChecks":[{"protocol":"HTTP","intervalSeconds":0.05,"portIndex":0}]}`))
	var got []string
	for len(got) == 0 || got[len(got)-1] != "deployment_success" {
		kind, v := frame(t, r)
		for _, what := range []string{"taskStatus", "condition", "alive", "healthy"} {
			if x, ok := v[what]; ok {
				kind += fmt.Sprint(" ", x)
			}
		}
		if step, ok := v["currentStep"].(map[string]any); ok {
			kind += fmt.Sprint(" ", step["actions"].([]any)[0].(map[string]any)["action"])
		}
		got = append(got, kind)
	}
	want := []string{
		"group_change_success", "api_post_event", "deployment_info StartApplication", "add_health_check_event",
		"deployment_step_success StartApplication", "deployment_info ScaleApplication",
		"instance_changed_event Scheduled", "instance_changed_event Provisioned",
		"status_update_event TASK_STAGING", "instance_changed_event Staging",
		"status_update_event TASK_STARTING", "instance_changed_event Starting",
		"status_update_event TASK_RUNNING", "instance_changed_event Running",
		"health_status_changed_event true", "instance_health_changed_event true",
		"deployment_step_success ScaleApplication", "deployment_success",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestStreamFilters(t *testing.T) {
	s := start(t, Config{Virtual: true})
	r := listen(t, s.URL(), "?plan-format=light&event_type=api_post_event&event_type=status_update_event")
	headers(t, r)
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"sleep 1"}`))
	var got []string
	for range 4 {
		kind, _ := frame(t, r)
		got = append(got, kind)
	}
	want := []string{"api_post_event", "status_update_event", "status_update_event", "status_update_event"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPlansAreHeavyIn14(t *testing.T) {
	s := start(t, Config{Virtual: true, Emulate: "1.4"})
	r := listen(t, s.URL(), "?event_type=deployment_success")
	headers(t, r)
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"sleep 1"}`))
	_, v := frame(t, r)
	plan := v["plan"].(map[string]any)
	if len(plan["original"].(map[string]any)["apps"].([]any)) != 0 || len(plan["target"].(map[string]any)["apps"].([]any)) != 1 {
		t.Errorf("plan %v", plan)
	}
}

func TestASlowStreamIsClosed(t *testing.T) {
	b := newBus(2, newCounters())
	s := &subscriber{frames: make(chan []byte, 2), gone: make(chan struct{})}
	b.add(s)
	for range 3 {
		b.publish("x", func() []field { return nil }, nil)
	}
	select {
	case <-s.gone:
	default:
		t.Error("it is still open")
	}
	if len(b.subs) != 0 {
		t.Error("it is still listed")
	}
}

func TestCallbacksOf14(t *testing.T) {
	s := start(t, Config{Virtual: true, Emulate: "1.4"})
	got := make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	receiver := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var v struct{ EventType string }
		_ = json.NewDecoder(r.Body).Decode(&v)
		got <- v.EventType
	})}
	go receiver.Serve(l)
	t.Cleanup(func() { receiver.Close() })
	callback := "http://" + l.Addr().String() + "/callback"
	must(t, 200, ask(t, "POST", s.URL()+"/v2/eventSubscriptions?callbackUrl="+url.QueryEscape(callback), ""))
	var list struct{ CallbackURLs []string }
	must(t, 200, ask(t, "GET", s.URL()+"/v2/eventSubscriptions", "")).into(t, &list)
	if !slices.Equal(list.CallbackURLs, []string{callback}) {
		t.Errorf("callbacks %v", list)
	}
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"sleep 1"}`))
	for {
		select {
		case kind := <-got:
			if kind == "deployment_success" {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no deployment_success was posted")
		}
	}
}
