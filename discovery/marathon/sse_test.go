package marathon

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chunks is a reader that returns one piece for each Read.
type chunks []string

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; (*c)[0] == "" {
		*c = (*c)[1:]
	}
	return n, nil
}

func frames(r io.Reader, limit int) (out []frame) {
	f := newFrameReader(r, limit)
	for {
		ev, err := f.next()
		if err != nil {
			return out
		}
		ev.Data = slices.Clone(ev.Data)
		if len(ev.Data) == 0 {
			ev.Data = nil
		}
		out = append(out, ev)
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []frame
	}{
		{"as Marathon frames", "event: a\r\ndata: {}\r\n\r\n", []frame{{Type: "a", Data: []byte("{}")}}},
		{"LF", "event: a\ndata: {}\n\n", []frame{{Type: "a", Data: []byte("{}")}}},
		{"CR", "event: a\rdata: {}\r\r", []frame{{Type: "a", Data: []byte("{}")}}},
		{"heart-beats between and within", "\r\n\r\nevent: a\r\ndata: 1\r\n\r\n\r\n\r\n", []frame{{Type: "a", Data: []byte("1")}}},
		{"several data lines", "data: 1\ndata: 2\ndata\n\n", []frame{{Data: []byte("1\n2\n")}}},
		{"no blank after the colon, one blank only", "event:a\ndata:  x\n\n", []frame{{Type: "a", Data: []byte(" x")}}},
		{"comments and other fields", ": hello\nid: 7\nretry: 1\ndata: x\n\n", []frame{{Data: []byte("x")}}},
		{"an event without data is none", "event: a\n\ndata: x\n\n", []frame{{Data: []byte("x")}}},
		{"a byte order mark", "\xef\xbb\xbfdata: x\n\n", []frame{{Data: []byte("x")}}},
		{"cut at the end", "data: x\n\ndata: y\n", []frame{{Data: []byte("x")}}},
		{
			"oversize is skipped, the next is read", "event: a\ndata: " + strings.Repeat("x", 100) + "\ndata: y\n\ndata: z\n\n",
			[]frame{{Type: "a", Oversize: true}, {Data: []byte("z")}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole": strings.NewReader(c.in), "byte by byte": iotest.OneByteReader(strings.NewReader(c.in)),
			} {
				if diff := cmp.Diff(c.want, frames(r, 50)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			for at := range c.in {
				r := chunks{c.in[:at], c.in[at:]}
				if at == 0 {
					r = r[1:]
				}
				if diff := cmp.Diff(c.want, frames(&r, 50)); diff != "" {
					t.Errorf("split at %d (-want +got):\n%s", at, diff)
				}
			}
		})
	}
}

// TestFrameIsNotHeldUp: an event is there with the first byte that ends it, though a LF may follow.
func TestFrameIsNotHeldUp(t *testing.T) {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	go io.WriteString(w, "event: a\r\ndata: x\r\n\r")
	f := newFrameReader(r, 100)
	if ev, err := f.next(); err != nil || ev.Type != "a" {
		t.Errorf("%+v, %v", ev, err)
	}
}

// FuzzSSE: whatever comes, however it is split, gives the same events, none larger than allowed.
func FuzzSSE(f *testing.F) {
	f.Add("event: a\r\ndata: {}\r\n\r\n", uint16(3))
	f.Add("\r\r\n\n\rdata:x\r\r", uint16(1))
	f.Add("data: "+strings.Repeat("x", 300)+"\n\n:\n\n", uint16(100))
	f.Fuzz(func(t *testing.T, in string, at uint16) {
		want := frames(strings.NewReader(in), 200)
		if got := frames(iotest.OneByteReader(strings.NewReader(in)), 200); !cmp.Equal(want, got) {
			t.Fatalf("byte by byte (-whole +got):\n%s", cmp.Diff(want, got))
		}
		if in != "" {
			cut := int(at) % len(in)
			r := chunks{in[:cut], in[cut:]}
			if cut == 0 {
				r = r[1:]
			}
			if got := frames(&r, 200); !cmp.Equal(want, got) {
				t.Fatalf("split at %d (-whole +got):\n%s", cut, cmp.Diff(want, got))
			}
		}
		for _, ev := range want {
			if len(ev.Data) > 200 || ev.Oversize && ev.Data != nil {
				t.Fatalf("an event of %d bytes", len(ev.Data))
			}
			notices, _ := readNotices(ev.Type, ev.Data, time.Now())
			for _, n := range notices {
				switch n.Action {
				case actRefetch, actDrain, actSuspect, actPod:
					if n.App == "" {
						t.Fatalf("a notice without an app: %+v", n)
					}
				}
			}
		}
	})
}

func TestNotices(t *testing.T) {
	at := time.Unix(1000, 0)
	plan := `"plan":{"id":"p","version":"v","steps":[{"actions":[{"action":"ScaleApplication","app":"/a"}]},{"actions":[{"action":"StartPod","pod":"/p"},{"app":"/a"}]}]}`
	for _, c := range []struct {
		typ, body string
		want      notice
	}{
		{"status_update_event", `"appId":"/a","taskId":"t","taskStatus":"TASK_RUNNING"`, notice{Action: actRefetch, App: "/a", Task: "t", Why: "TASK_RUNNING"}},
		{"status_update_event", `"appId":"/a","taskId":"t","taskStatus":"TASK_STAGING"`, notice{Action: actIgnore, App: "/a", Task: "t", Why: "TASK_STAGING"}},
		{"status_update_event", `"appId":"/a","taskId":"t","taskStatus":"TASK_KILLED"`, notice{Action: actDrain, App: "/a", Task: "t", Why: "TASK_KILLED"}},
		{"status_update_event", `"appId":"/a","taskId":"t","taskStatus":"TASK_LOST"`, notice{Action: actSuspect, App: "/a", Task: "t", Why: "TASK_LOST"}},
		{"status_update_event", `"appId":"/a","taskId":"t","taskStatus":"TASK_OF_THE_FUTURE"`, notice{Action: actRefetch, App: "/a", Task: "t", Why: "TASK_OF_THE_FUTURE"}},
		{"status_update_event", `"taskId":"t","taskStatus":"TASK_KILLED"`, notice{Action: actResync, Task: "t", Why: "TASK_KILLED"}},
		{"instance_changed_event", `"instanceId":"i","runSpecId":"/a","condition":"Scheduled","agentId":null,"host":null`, notice{Action: actIgnore, App: "/a", Instance: "i", Why: "Scheduled", Key: "condition"}},
		{"instance_health_changed_event", `"instanceId":"i","runSpecId":"/a","healthy":null`, notice{Action: actRefetch, App: "/a", Instance: "i", Key: "health i unknown"}},
		{"instance_health_changed_event", `"instanceId":"i","runSpecId":"/a","healthy":false`, notice{Action: actRefetch, App: "/a", Instance: "i", Key: "health i false"}},
		{"health_status_changed_event", `"appId":"/a","instanceId":"i","alive":false`, notice{Action: actRefetch, App: "/a", Instance: "i", Key: "health i false"}},
		{"api_post_event", `"uri":"/v2/apps//a","appDefinition":{"id":"/a","env":{"X":{"secret":"s"}}}`, notice{Action: actRefetch, App: "/a"}},
		{"unhealthy_instance_kill_event", `"appId":"/a","taskId":"t","instanceId":"i"`, notice{Action: actDrain, App: "/a", Task: "t", Instance: "i", Intent: true, Why: "unhealthy_instance_kill_event"}},
		{"group_change_success", `"groupId":"/","version":"v"`, notice{Action: actGroup, App: "/", Version: "v"}},
		{"deployment_info", plan, notice{Action: actDeployment, Apps: []string{"/a", "/p"}, Version: "v", Plan: "p"}},
		{"deployment_success", plan, notice{Action: actDeployed, Apps: []string{"/a", "/p"}, Version: "v", Plan: "p"}},
		{"pod_updated_event", `"uri":"/v2/pods/p"`, notice{Action: actPod, App: "/p"}},
		{"framework_message_event", `"message":[1,2]`, notice{Action: actIgnore}},
		{"of the future", `"appId":"/a"`, notice{Action: actIgnore, App: "/a"}},
	} {
		t.Run(c.typ+" "+c.want.Why, func(t *testing.T) {
			c.want.Type, c.want.At = c.typ, at
			got, err := readNotices("", []byte(`{"eventType":"`+c.typ+`",`+c.body+`}`), at)
			if diff := cmp.Diff([]notice{c.want}, got); err != nil || diff != "" {
				t.Errorf("error %v; (-want +got):\n%s", err, diff)
			}
		})
	}
	three, err := readNotices("x", []byte(`{"eventType":"a"}`+"\r\n"+`{"eventType":"b"} {"timestamp":7,"eventType":"c"}`), at)
	if err != nil || len(three) != 3 {
		t.Errorf("three objects in one event: %v, %v", three, err)
	}
	if _, err := readNotices("x", []byte(`{"eventType":`), at); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a cut event: %v", err)
	}
}
