package marathon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"signalbox/discovery"
	"signalbox/discovery/labels"
)

const twoApps = `{"apps":[{"id":"/a","labels":{"signalbox.host":"a.local"}},{"id":"/b"}]}`

func TestDecodeAppsRefusesWhatIsNoNews(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       error
	}{
		{"nothing", "", ErrEmpty},
		{"white space", " \r\n\t", ErrEmpty},
		{"one brace", "{", ErrTruncated},
		{"half a key", `{"ap`, ErrTruncated},
		{"half a list", `{"apps":[`, ErrTruncated},
		{"half an app", twoApps[:40], ErrTruncated},
		{"one brace short", twoApps[:len(twoApps)-1], ErrTruncated},
		{"a list", `[]`, ErrNotObject},
		{"a string", `"pong"`, ErrNotObject},
		{"null", `null`, ErrNotObject},
		{"a page", "<html><body>502 Bad Gateway</body></html>", ErrSyntax},
		{"text", "Too many concurrent requests! Allowed: 8.", ErrSyntax},
		{"an error", `{"message":"Not Authorized"}`, ErrNoApps},
		{"an empty object", `{}`, ErrNoApps},
		{"apps null", `{"apps":null}`, ErrNoApps},
		{"apps an object", `{"apps":{"/a":{}}}`, ErrNoApps},
		{"apps a string", `{"apps":"none"}`, ErrNoApps},
		{"something behind", twoApps + `{}`, ErrSyntax},
		{"two bodies", twoApps + twoApps, ErrSyntax},
		{"a comma too many", `{"apps":[{"id":"/a"},]}`, ErrSyntax},
		{"a broken string", "{\"apps\":[{\"id\":\"/a\nb\"}]}", ErrSyntax},
		{"too long", twoApps + strings.Repeat(" ", 1000), ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			apps, bad, err := DecodeApps(strings.NewReader(c.body), 500)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if apps != nil || bad != nil {
				t.Errorf("apps %v and %v beside an error", apps, bad)
			}
		})
	}
}

func TestDecodeAppsOfNothingIsNoError(t *testing.T) {
	apps, bad, err := DecodeApps(strings.NewReader(`{"apps":[]}`), 100)
	if err != nil || len(apps) != 0 || len(bad) != 0 {
		t.Errorf("got %v, %v, %v", apps, bad, err)
	}
}

// A body that ends at any byte before its last is truncated, and nothing else.
func TestDecodeAppsCutAnywhere(t *testing.T) {
	for n := 1; n < len(twoApps); n++ {
		if _, _, err := DecodeApps(strings.NewReader(twoApps[:n]), 1<<20); !errors.Is(err, ErrTruncated) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestDecodeAppsReaderFails(t *testing.T) {
	broken := errors.New("connection reset")
	r := io.MultiReader(strings.NewReader(twoApps[:30]), iotest.ErrReader(broken))
	if _, _, err := DecodeApps(r, 1<<20); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if apps, _, err := DecodeApps(iotest.OneByteReader(strings.NewReader(twoApps)), 1<<20); err != nil || len(apps) != 2 {
		t.Errorf("byte by byte: %v, %v", apps, err)
	}
	if _, _, err := DecodeApps(strings.NewReader(twoApps), int64(len(twoApps))); err != nil {
		t.Errorf("exactly at the limit: %v", err)
	}
}

func TestDecodeApp(t *testing.T) {
	app, err := DecodeApp(strings.NewReader(`{"app":{"id":"/a","tasks":[{"id":"a.1"}]}}`), 1000)
	if err != nil || app.ID != "/a" || len(app.Tasks) != 1 {
		t.Errorf("got %+v, %v", app, err)
	}
	for body, want := range map[string]error{
		"":                                      ErrEmpty,
		`{"app":`:                               ErrTruncated,
		`{"message":"App '/x' does not exist"}`: ErrNoApps,
		`{"app":null}`:                          ErrNoApps,
		`<html>`:                                ErrSyntax,
		`{"app":{"id":"/a"}}` + strings.Repeat(" ", 2000): ErrTooLarge,
	} {
		if _, err := DecodeApp(strings.NewReader(body), 1000); !errors.Is(err, want) {
			t.Errorf("%.40q: error %v, want %v", body, err, want)
		}
	}
	for _, body := range []string{`{"app":{"id":""}}`, `{"app":{"id":"/a b"}}`, `{"app":{"id":"/a","tasks":1}}`, `{"app":{"id":"/a","labels":[]}}`} {
		if _, err := DecodeApp(strings.NewReader(body), 1000); err == nil {
			t.Errorf("%s: no error", body)
		}
	}
}

func TestDecodePods(t *testing.T) {
	for body, want := range map[string]error{
		"": ErrEmpty, `{"message":"x"}`: ErrNoApps, `[`: ErrTruncated, `[{"id":"/p"`: ErrTruncated, `[]x`: ErrSyntax, `<html>`: ErrSyntax,
		`[]` + strings.Repeat(" ", 2000): ErrTooLarge,
	} {
		if _, _, err := DecodePods(strings.NewReader(body), 1000); !errors.Is(err, want) {
			t.Errorf("%.40q: error %v, want %v", body, err, want)
		}
	}
	if pods, bad, err := DecodePods(strings.NewReader(`[]`), 1000); err != nil || len(pods)+len(bad) != 0 {
		t.Errorf("got %v, %v, %v", pods, bad, err)
	}
	if _, err := DecodePod(strings.NewReader(`{"id":"/p","spec":{}}`), 1000); err != nil {
		t.Error(err)
	}
	if _, err := DecodePod(strings.NewReader(`{"message":"x"}`), 1000); err == nil {
		t.Error("no error for a message")
	}
}

// Whatever stands between two good apps, they are read, or the whole body is refused.
func FuzzDecodeApps(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `7`, `"x"`, `[]`, `{"id":"/x","tasks":[{"ports":["1",null,{}]}]}`, `{"id":"/x","labels":{"a":1,"b":null}}`, `{"id":"/x"`,
		`{"id":"/x","container":{"docker":{"network":"BRIDGE","portMappings":[{"hostPort":null}]}},"ipAddress":{"discovery":null}}`,
		`{"id":"/x","healthChecks":[null],"networks":[null],"tasks":[null],"portDefinitions":[null]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, garbage []byte) {
		body := fmt.Sprintf(`{"apps":[%s,%s,%s]}`, `{"id":"/a","labels":{"signalbox.host":"a.local"}}`, garbage, `{"id":"/b","networks":[{"mode":"host"}]}`)
		apps, _, err := DecodeApps(strings.NewReader(body), 1<<20)
		if json.Valid(garbage) && err != nil {
			t.Fatalf("refused: %v", err)
		}
		if err != nil {
			return
		}
		ids := map[string]bool{}
		for _, a := range apps {
			ids[a.ID] = true
			services, problems := Convert(a, Options{Labels: labels.Options{ServicePorts: labels.All}})
			for _, s := range services {
				for _, e := range s.Endpoints {
					if !e.Addr.IsValid() || e.Addr.Port() == 0 || !routable(e.Addr) || !isWord(e.Task) {
						t.Errorf("endpoint %+v", e)
					}
				}
			}
			for _, p := range problems {
				if strings.ContainsAny(p.String(), "\r\n") {
					t.Errorf("problem on two lines: %s", p)
				}
			}
		}
		if json.Valid(garbage) && (!ids["/a"] || !ids["/b"]) {
			t.Errorf("good apps lost: %v", ids)
		}
	})
}

func FuzzDecodePods(f *testing.F) {
	f.Add([]byte(`{"id":"/p","spec":{"containers":[{"name":"c","endpoints":[{"name":"h","containerPort":80}]}]},"instances":[{"id":"i","containers":[{"name":"c","status":"TASK_RUNNING"}],"networks":[{"addresses":["10.0.0.1"]}]}]}`))
	f.Fuzz(func(t *testing.T, garbage []byte) {
		body := joined([]byte(`[`), garbage, []byte(`]`))
		pods, _, err := DecodePods(bytes.NewReader(body), 1<<20)
		if err != nil {
			return
		}
		for _, p := range pods {
			services, _ := ConvertPod(p, Options{})
			for _, s := range services {
				for _, e := range s.Endpoints {
					if !e.Addr.IsValid() || !routable(e.Addr) {
						t.Errorf("endpoint %+v", e)
					}
				}
			}
			_ = p.Verdicts()
		}
	})
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// An app in the shape of 1.11, with everything that Marathon sends along.
func sampleApp(i, tasks int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":"/shop/web-%d","acceptedResourceRoles":["*"],"backoffFactor":1.15,"backoffSeconds":1,"cmd":"python3 -m http.server $PORT0","container":{"type":"DOCKER","docker":{"forcePullImage":false,"image":"python:3","parameters":[],"privileged":false},"volumes":[],"portMappings":[{"containerPort":8080,"hostPort":0,"labels":{},"name":"http","protocol":"tcp","servicePort":%d}]},"cpus":0.1,"disk":0,"executor":"","env":{"A":"b","JAVA_OPTS":"-Xmx512m -Xms512m -XX:+UseG1GC -Dconfig=/etc/app.conf"},"healthChecks":[{"gracePeriodSeconds":30,"ignoreHttp1xx":false,"intervalSeconds":10,"ipProtocol":"IPv4","maxConsecutiveFailures":3,"path":"/health","portIndex":0,"protocol":"HTTP","timeoutSeconds":5,"delaySeconds":15}],"instances":2,"labels":{"signalbox.host":"shop-%d.local","owner":"team"},"maxLaunchDelaySeconds":300,"mem":64,"gpus":0,"networks":[{"mode":"container/bridge"}],"requirePorts":false,"upgradeStrategy":{"maximumOverCapacity":1,"minimumHealthCapacity":1},"version":"2021-06-01T10:00:00.000Z","versionInfo":{"lastScalingAt":"2021-06-01T10:00:00.000Z","lastConfigChangeAt":"2021-06-01T09:58:00.000Z"},"killSelection":"YOUNGEST_FIRST","unreachableStrategy":{"inactiveAfterSeconds":0,"expungeAfterSeconds":0},"role":"*","tasksStaged":0,"tasksRunning":%d,"tasksHealthy":%d,"tasksUnhealthy":0,"deployments":[],"tasks":[`, i, 10000+i, i, tasks, tasks)
	for t := range tasks {
		if t > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"appId":"/shop/web-%d","healthCheckResults":[{"alive":true,"consecutiveFailures":0,"firstSuccess":"2021-06-01T10:00:09.120Z","lastSuccess":"2021-06-01T10:30:09.120Z","instanceId":"shop_web.instance-6ff4dd6e-c2c1-11eb-8529-%012d"}],"host":"10.0.%d.%d","id":"shop_web-%d.instance-6ff4dd6e-c2c1-11eb-8529-%012d._app.1","ipAddresses":[{"ipAddress":"172.17.0.3","protocol":"IPv4"}],"ports":[%d],"servicePorts":[],"slaveId":"9e3d2a0c-9f7c-4c3f-8ca9-000000000000-S1","state":"TASK_RUNNING","stagedAt":"2021-06-01T09:59:58.000Z","startedAt":"2021-06-01T10:00:01.000Z","version":"2021-06-01T09:58:00.000Z","localVolumes":[],"role":"*"}`, i, t, t, 1+i%250, i, t, 31000+i%1000)
	}
	b.WriteString(`]}`)
	return b.String()
}

func BenchmarkOneApp(b *testing.B) {
	body := `{"app":` + sampleApp(1, 3) + `}`
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		app, err := DecodeApp(strings.NewReader(body), 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		if s, _ := Convert(app, Options{}); len(s) != 1 || len(s[0].Endpoints) != 3 {
			b.Fatalf("%+v", s)
		}
	}
}

func largeBody(apps int) string {
	parts := make([]string, apps)
	for i := range parts {
		parts[i] = sampleApp(i, 3)
	}
	return `{"apps":[` + strings.Join(parts, ",") + `]}`
}

func BenchmarkDecode5000Apps(b *testing.B) {
	body := largeBody(5000)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		apps, bad, err := DecodeApps(strings.NewReader(body), 1<<30)
		if err != nil || len(bad) > 0 || len(apps) != 5000 {
			b.Fatal(len(apps), bad, err)
		}
	}
}

func BenchmarkConvert5000Apps(b *testing.B) {
	apps, _, err := DecodeApps(strings.NewReader(largeBody(5000)), 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, a := range apps {
			if s, _ := Convert(a, Options{}); len(s) != 1 {
				b.Fatal(a.ID)
			}
		}
	}
}

func TestSampleAppIsWhole(t *testing.T) {
	apps, bad, err := DecodeApps(strings.NewReader(largeBody(3)), 1<<20)
	if err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	var got []string
	for _, a := range apps {
		s, p := Convert(a, Options{})
		got = append(got, fmt.Sprintf("%s %v %d %d", s[0].ID, s[0].Routes, len(s[0].Endpoints), len(p)))
	}
	want := []string{"/shop/web-0:0 [shop-0.local/] 3 0", "/shop/web-1:0 [shop-1.local/] 3 0", "/shop/web-2:0 [shop-2.local/] 3 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What encoding/json takes for JSON, the cursor and the body take, and nothing else.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-0.5e+7,"x\u00e9\"\\",null,true,false,{}],"b":{"":""}}`, `[1,]`, `{,}`, `{"a"}`, `{"a":}`, `01`, `1.`, `-`, `1e`, `"\x"`, `"\u12"`, "\"a\nb\"",
		`nul`, `nulls`, ``, ` `, `[[[[]]]]`, `{"a":1 "b":2}`, `[1 2]`, `"a" "b"`, `}{`, "\xff", "\"\xff\"", `{"a":1}}`, `[}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) >= maxDepth {
			return
		}
		want := json.Valid(b)
		c := cursor{b: b}
		c.skip()
		if c.finish(); c.broken == want {
			t.Errorf("cursor takes %q: %v, encoding/json: %v", b, !c.broken, want)
		}
		in := newBody(iotest.OneByteReader(bytes.NewReader(b)), 1<<20, 1)
		if err := in.skip(); err == nil {
			err = in.atEnd()
			if (err == nil) != want {
				t.Errorf("body takes %q: %v, encoding/json: %v", b, err, want)
			}
		} else if want && len(b) > 0 && !bareWord(b) {
			t.Errorf("body refuses %q: %v", b, err)
		}
		if want && b[0] == '"' {
			var s string
			_ = json.Unmarshal(b, &s)
			c := cursor{b: b}
			if got := string(c.text()); got != s {
				t.Errorf("text of %q is %q, want %q", b, got, s)
			}
		}
	})
}

// bareWord reports whether b is a number or a word, whose end a stream does not show until something follows.
func bareWord(b []byte) bool {
	b = bytes.TrimSpace(b)
	return len(b) > 0 && !bytes.ContainsAny(b[:1], `{["`)
}

// One value cannot fill the memory, however much the whole body may hold.
func TestDecodeAppsBoundsOneValue(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"apps":[{"id":"/a","cmd":"`), zeros{})
	read := &countedReader{r: endless}
	if _, _, err := DecodeApps(read, 256<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
	if read.n > maxValue+1<<20 {
		t.Errorf("%d bytes of one value were read", read.n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

type countedReader struct {
	r io.Reader
	n int
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// routable reports whether an address may be routed to where nothing is allowed beyond the ordinary.
func routable(a netip.AddrPort) bool {
	_, refused := discovery.Addresses{}.Check(a.Addr(), int(a.Port()))
	return refused == ""
}
