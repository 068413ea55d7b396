package marathon

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
	"signalbox/discovery/labels"
)

// someApp draws the body of an app in one of the shapes, with tasks in any state.
func someApp(t *rapid.T) string {
	shape := rapid.SampledFrom([]string{
		`"ports":[10001,10002]`,
		`"networks":[{"mode":"host"}],"portDefinitions":[{"port":10001,"name":"http"},{"port":53,"protocol":"udp"},{"port":10002}]`,
		`"container":{"docker":{"network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":10001}]}}`,
		`"networks":[{"mode":"container/bridge"}],"container":{"portMappings":[{"containerPort":80,"servicePort":10001},{"containerPort":81}]}`,
		`"networks":[{"mode":"container","name":"n"}],"container":{"portMappings":[{"containerPort":80},{"containerPort":81,"hostPort":0}]}`,
		`"ipAddress":{"discovery":{"ports":[{"number":80,"name":"http","protocol":"tcp"}]}}`,
	}).Draw(t, "shape")
	label := rapid.SampledFrom([]string{`"signalbox.host":"a.local"`, `"HAPROXY_GROUP":"x"`, `"signalbox.host":"a!b"`, `"signalbox.http.host":"a.local,b!"`, ``}).Draw(t, "label")
	var tasks []string
	for i := range rapid.SampledFrom([]int{0, 1, 2, 3, 6, 40}).Draw(t, "tasks") {
		tasks = append(tasks, fmt.Sprintf(`{"id":"app.%d","host":%q,"ports":%s,"state":%q,"ipAddresses":%s,"healthCheckResults":%s,"startedAt":"2021-06-01T10:00:01.000Z","version":%q}`, i,
			rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "agent", "nowhere", "127.0.0.1", ""}).Draw(t, "host"),
			rapid.SampledFrom([]string{"[31001,31002,31003]", "[31001]", "[]", "null", "[0]"}).Draw(t, "ports"),
			rapid.SampledFrom([]string{"TASK_RUNNING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE", "TASK_STAGING", "TASK_FAILED", "TASK_NEW"}).Draw(t, "state"),
			rapid.SampledFrom([]string{`[{"ipAddress":"10.1.0.1"}]`, `[]`, `null`, `[{"ipAddress":"169.254.1.1"}]`, `[{}]`}).Draw(t, "addresses"),
			rapid.SampledFrom([]string{`[{"alive":true}]`, `[{"alive":false,"consecutiveFailures":2}]`, `[{"alive":false}]`, `[]`, `null`, `[null]`}).Draw(t, "results"),
			rapid.SampledFrom([]string{"2021-06-01T10:00:00.000Z", "", movedVersion, forgottenVersion, unreadVersion}).Draw(t, "version")))
	}
	check := rapid.SampledFrom([]string{`"healthChecks":[{"protocol":"HTTP"}],`, ``}).Draw(t, "check")
	return fmt.Sprintf(`{"app":{"id":"/app","version":"2021-06-01T10:00:00.000Z","labels":{%s},%s%s,"tasks":[%s]}}`, label, check, shape, strings.Join(tasks, ","))
}

func readOne(t *rapid.T, body string) *App {
	app, err := DecodeApp(strings.NewReader(body), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// Earlier versions of an app: one that is known and has its ports in another order, in another network; one that nobody knows any more;
// one that is still being read.
const (
	movedVersion     = "2021-06-01T08:00:00.000Z"
	forgottenVersion = "2021-06-01T07:00:00.000Z"
	unreadVersion    = "2021-06-01T06:00:00.000Z"
)

var propertyOptions = Options{
	shapeOf: func(_, version string) (*shape, bool) {
		if version == movedVersion {
			return &shape{mode: onContainer, ports: []portSpec{{container: 90, name: "admin"}, {container: 53, protocol: "udp"}, {container: 91, name: "http"}}}, true
		}
		return nil, version == forgottenVersion
	},
	Resolve: func(host string) (netip.Addr, bool) { return netip.MustParseAddr("10.0.0.9"), host == "agent" },
	Verdict: func(task string) (alive, known bool) { return task == "app.1", task != "app.2" },
}

// The order in which Marathon lists tasks says nothing, and the same read says the same again, with itself as what was before.
func TestConvertIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		app := readOne(t, someApp(t))
		services, problems := Convert(app, propertyOptions)
		want := tableText(signalbox.NewTable(slices.Clone(services), slices.Clone(problems)))

		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		rng.Shuffle(len(app.Tasks), func(i, j int) { app.Tasks[i], app.Tasks[j] = app.Tasks[j], app.Tasks[i] })
		shuffled, shuffledProblems := Convert(app, propertyOptions)
		if diff := cmp.Diff(want, tableText(signalbox.NewTable(shuffled, shuffledProblems))); diff != "" {
			t.Fatalf("the order of tasks counts (-listed +shuffled):\n%s", diff)
		}

		again := propertyOptions
		again.Previous = signalbox.NewTable(services, nil).Service
		kept, _ := Convert(app, again)
		for i, s := range kept {
			if diff := cmp.Diff(endpoints(services[i]), endpoints(s)); diff != "" || !slices.Equal(services[i].Routes, s.Routes) {
				t.Fatalf("a second look differs (-first +second):\n%s", diff)
			}
		}
	})
}

func endpoints(s *signalbox.Service) []string {
	var out []string
	for _, e := range s.Endpoints {
		out = append(out, fmt.Sprintf("%s %s %s %s", e.Task, e.Addr, e.State, e.Why))
	}
	return out
}

// Every endpoint has an address that may be used; every task in a state that takes no part has none.
func TestConvertEndpoints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		app := readOne(t, someApp(t))
		o := propertyOptions
		o.Labels = labels.Options{ServicePorts: labels.All}
		before, _ := Convert(readOne(t, someApp(t)), o)
		o.Previous = signalbox.NewTable(before, nil).Service
		services, _ := Convert(app, o)
		state := map[string]presence{}
		for i := range app.Tasks {
			state[app.Tasks[i].ID] = app.Tasks[i].presence()
		}
		for _, s := range services {
			if !slices.IsSortedFunc(s.Endpoints, signalbox.Endpoint.Compare) {
				t.Fatalf("not sorted: %v", endpoints(s))
			}
			for _, e := range s.Endpoints {
				if !routable(e.Addr) || e.Addr.Port() == 0 || state[e.Task] == absent {
					t.Fatalf("endpoint %+v", e)
				}
				if (state[e.Task] == dying) != (e.State == signalbox.Draining) || (e.State == signalbox.Up) != (e.Why == "") {
					t.Fatalf("endpoint %+v", e)
				}
			}
		}
	})
}
