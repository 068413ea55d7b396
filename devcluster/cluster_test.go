package devcluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDockerAppFailsAloneAndSaysWhy(t *testing.T) {
	s := start(t, Config{})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"image","cmd":"sleep 1000","container":{"type":"DOCKER","docker":{"image":"python:3"}}}`))
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"plain","cmd":"exec sleep 1000"}`))
	settled(t, s, "/plain", 1)
	eventually(t, "the failure", func() bool {
		f := view(t, s, "/image").App.LastTaskFailure
		return f != nil && f.State == "TASK_FAILED" && strings.Contains(f.Message, "Docker") && strings.Contains(f.Message, "python:3")
	})
	eventually(t, "the queue to list it", func() bool {
		return strings.Contains(string(ask(t, "GET", s.URL()+"/v2/queue", "").body), `"/image"`)
	})
}

func TestEnvironment(t *testing.T) {
	s := start(t, Config{Agents: []string{"127.0.0.4"}})
	out := filepath.Join(t.TempDir(), "env")
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", fmt.Sprintf(`{"id":"/a/b","cmd":"env > %s.new && mv %[1]s.new %[1]s && exec sleep 1000","cpus":0.5,
		"labels":{"signalbox.host":"x.local"},"env":{"OWN":"1","PORT1":"mine"},
		"portDefinitions":[{"port":0,"name":"http"},{"port":4711,"name":"admin-api"}]}`, out)))
	var env map[string]string
	eventually(t, "the environment", func() bool {
		b, err := os.ReadFile(out)
		env = map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[k] = v
		}
		return err == nil
	})
	settled(t, s, "/a/b", 1)
	v := view(t, s, "/a/b")
	task := v.App.Tasks[0]
	p0, p1 := fmt.Sprint(task.Ports[0]), fmt.Sprint(task.Ports[1])
	for k, want := range map[string]string{
		"HOST": "127.0.0.4", "PORT": p0, "PORT0": p0, "PORT1": "mine", "PORTS": p0 + "," + p1, "PORT_HTTP": p0, "PORT_ADMIN_API": p1, "PORT_4711": p1,
		"MARATHON_APP_ID": "/a/b", "MARATHON_APP_VERSION": v.App.Version, "MESOS_TASK_ID": task.ID, "OWN": "1",
		"MARATHON_APP_RESOURCE_CPUS": "0.5", "MARATHON_APP_RESOURCE_MEM": "128.0", "MARATHON_APP_RESOURCE_DISK": "0.0", "MARATHON_APP_RESOURCE_GPUS": "0",
		"MARATHON_APP_LABELS": "SIGNALBOX_HOST", "MARATHON_APP_LABEL_SIGNALBOX_HOST": "x.local",
	} {
		if env[k] != want {
			t.Errorf("%s=%q, want %q", k, env[k], want)
		}
	}
	if env["MESOS_SANDBOX"] == "" {
		t.Error("no MESOS_SANDBOX")
	}
}

func TestErrors(t *testing.T) {
	s := start(t, Config{Virtual: true})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"/g/a","cmd":"x"}`))
	for _, c := range []struct {
		method, path, body string
		status             int
		contains           string
	}{
		{"GET", "/v2/apps/nix", "", 404, `{"message":"App '/nix' does not exist"}`},
		{"GET", "/v2/groups/nix", "", 404, `{"message":"Group '/nix' does not exist"}`},
		{"DELETE", "/v2/deployments/nix", "", 404, `{"message":"DeploymentPlan nix does not exist"}`},
		{"DELETE", "/v2/apps/g/a/tasks/nix", "", 404, `{"message":"Task 'nix' does not exist"}`},
		{"GET", "/nix", "", 500, `{"message":"URI not found"}`},
		{"POST", "/v2/apps", `{"id":"a"`, 400, `{"message":"Invalid JSON","details":"Unexpected end-of-input`},
		{"POST", "/v2/apps", `{"id":"a","cmd":"x","instances":"two"}`, 400, `{"path":"/instances","errors":["error.expected.jsnumber"]}`},
		{
			"POST", "/v2/apps", `{"id":"a","cmd":"x","upgradeStrategy":{"minimumHealthCapacity":2,"maximumOverCapacity":1}}`, 422,
			`{"message":"Object is not valid","details":[{"path":"/upgradeStrategy/minimumHealthCapacity","errors":["got 2.0, expected between 0.0 and 1.0"]}]}`,
		},
		{"POST", "/v2/apps", `{"id":"A_b","cmd":"x"}`, 422, `"path":"/id"`},
		{"POST", "/v2/apps", `{"id":"/g/a","cmd":"x"}`, 409, `{"message":"An app with id [/g/a] already exists."}`},
		{"POST", "/v2/groups", `{"id":"/g"}`, 409, `Group /g is already created. Use PUT to change this group.`},
		{"PUT", "/v2/groups/g", `{"scaleBy":2,"apps":[]}`, 422, `{"path":"/scaleBy","errors":["not allowed in conjunction with other properties."]}`},
		{"PUT", "/v2/groups", `{"version":"2015-09-28T19:47:37.681Z","groups":[]}`, 422, `{"path":"/version","errors":["not allowed in conjunction`},
		{"GET", "/v2/apps?label=a==", "", 422, `message`},
		{"DELETE", "/v2/apps/g/a/tasks?scale=true&wipe=true", "", 400, `message`},
		{"POST", "/v2/tasks/delete", `{"ids":["nodots"]}`, 400, `message`},
	} {
		a := ask(t, c.method, s.URL()+c.path, c.body)
		if a.status != c.status || !strings.Contains(string(a.body), c.contains) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, a.status, a.body, c.status, c.contains)
		}
	}
}

func TestLocksAndCancelAndRollback(t *testing.T) {
	s := start(t, Config{})
	// A deployment that cannot end: its check never succeeds.
	stuck := `{"id":"web","cmd":"exec sleep 1000","healthChecks":[{"protocol":"COMMAND","command":{"value":"false"},"delaySeconds":0,"intervalSeconds":1}]}`
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"exec sleep 1000"}`))
	settled(t, s, "/web", 1)
	first := must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web", stuck))
	locked := must(t, 409, ask(t, "PUT", s.URL()+"/v2/apps/web", `{"instances":2}`))
	id := first.header.Get("Marathon-Deployment-Id")
	if !strings.Contains(string(locked.body), "App is locked by one or more deployments.") || !strings.Contains(string(locked.body), id) {
		t.Errorf("%s", locked.body)
	}
	var list []struct {
		ID                      string
		CurrentStep, TotalSteps int
		CurrentActions          []struct{ Action, App string }
	}
	must(t, 200, ask(t, "GET", s.URL()+"/v2/deployments", "")).into(t, &list)
	if len(list) != 1 || list[0].ID != id || list[0].CurrentStep != 1 || list[0].CurrentActions[0].Action != "RestartApplication" {
		t.Errorf("%+v", list)
	}
	must(t, 200, ask(t, "DELETE", s.URL()+"/v2/deployments/"+id, ""))
	settled(t, s, "/web", 1)
	if body := string(ask(t, "GET", s.URL()+"/v2/apps/web", "").body); strings.Contains(body, `"COMMAND"`) {
		t.Errorf("not rolled back: %s", body)
	}
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web", stuck))
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web?force=true", `{"instances":2}`))
	must(t, 200, ask(t, "GET", s.URL()+"/v2/deployments", "")).into(t, &list)
	if a := must(t, 202, ask(t, "DELETE", s.URL()+"/v2/deployments/"+list[0].ID+"?force=true", "")); len(a.body) != 0 {
		t.Errorf("%q", a.body)
	}
}

func TestRollingRestartKeepsItsMinimum(t *testing.T) {
	s := start(t, Config{TaskKilling: true})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"exec sleep 1000","instances":3,
		"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0}}`))
	settled(t, s, "/web", 3)
	old := view(t, s, "/web")
	r := listen(t, s.URL(), "?event_type=status_update_event&event_type=deployment_success")
	headers(t, r)
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web", `{"labels":{"a":"b"}}`))
	running, states := 3, map[string]bool{}
	for {
		kind, v := frame(t, r)
		if kind == "deployment_success" {
			break
		}
		switch states[v["taskStatus"].(string)] = true; v["taskStatus"] {
		case "TASK_RUNNING":
			running++
		case "TASK_KILLING":
			running--
		}
		if running < 3 || running > 4 {
			t.Errorf("%d tasks run", running)
		}
	}
	if !states["TASK_KILLING"] || !states["TASK_KILLED"] {
		t.Errorf("states %v", states)
	}
	now := view(t, s, "/web")
	for _, task := range now.App.Tasks {
		if task.Version != now.App.Version || task.Version == old.App.Tasks[0].Version {
			t.Errorf("task %+v of app version %s", task, now.App.Version)
		}
	}
}

// A deployment that takes the place of one whose task never became healthy leaves the healthy one alone.
func TestForcedDeploymentKeepsTheMinimum(t *testing.T) {
	s := start(t, Config{Virtual: true})
	app := func(version int) string {
		return fmt.Sprintf(`{"id":"/web","cmd":"x","instances":1,"env":{"V":"%d"},"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":1},
			"healthChecks":[{"protocol":"HTTP","path":"/","portIndex":0,"delaySeconds":1000}]}`, version)
	}
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"/web","cmd":"x","instances":1}`))
	settled(t, s, "/web", 1)
	healthy := view(t, s, "/web").App.Tasks[0].ID
	for version := range 3 {
		must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web?force=true", app(version)))
		eventually(t, "the next task beside the healthy one", func() bool {
			v := view(t, s, "/web").App
			return len(v.Tasks) == 2 && v.Tasks[0].Version != v.Tasks[1].Version && (v.Tasks[0].Version == v.Version || v.Tasks[1].Version == v.Version)
		})
		v := view(t, s, "/web").App
		if v.Tasks[0].ID != healthy && v.Tasks[1].ID != healthy {
			t.Fatalf("version %d: the healthy task was killed: %+v", version, v.Tasks)
		}
	}
}

func TestHealthGraceAndKill(t *testing.T) {
	s := start(t, Config{Heartbeat: time.Second})
	r := listen(t, s.URL(), "?event_type=failed_health_check_event&event_type=unhealthy_instance_kill_event&event_type=health_status_changed_event")
	headers(t, r)
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"exec sleep 1000",
		"healthChecks":[{"protocol":"TCP","portIndex":0,"gracePeriodSeconds":0,"intervalSeconds":0.05,"maxConsecutiveFailures":2}]}`))
	var got []string
	for len(got) < 5 {
		kind, _ := frame(t, r)
		got = append(got, strings.TrimSuffix(kind, "_event"))
	}
	want := "failed_health_check health_status_changed failed_health_check failed_health_check unhealthy_instance_kill"
	if g := strings.Join(got, " "); g != want {
		t.Errorf("%s\nwant %s", g, want)
	}
}

func TestUnreachableAgent(t *testing.T) {
	s := start(t, Config{Virtual: true, Agents: []string{"127.0.0.2", "127.0.0.3"}})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"x","instances":2,"unreachableStrategy":{"inactiveAfterSeconds":300,"expungeAfterSeconds":600}}`))
	settled(t, s, "/web", 2)
	must(t, 201, ask(t, "POST", s.URL()+"/devcluster/faults", `{"kind":"unreachable","agent":"127.0.0.2"}`))
	states := func() string {
		var all []string
		for _, task := range view(t, s, "/web").App.Tasks {
			all = append(all, task.State)
		}
		return strings.Join(all, " ")
	}
	eventually(t, "an unreachable task", func() bool {
		return strings.Contains(states(), "TASK_UNREACHABLE") && strings.Contains(states(), "TASK_RUNNING")
	})
	must(t, 204, ask(t, "DELETE", s.URL()+"/devcluster/faults", ""))
	eventually(t, "its return", func() bool { return states() == "TASK_RUNNING TASK_RUNNING" })
}

func TestFaults(t *testing.T) {
	s := start(t, Config{Virtual: true})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"x"}`))
	inject := func(body string) {
		t.Helper()
		must(t, 201, ask(t, "POST", s.URL()+"/devcluster/faults", body))
	}
	get := func() answer { return ask(t, "GET", s.URL()+"/v2/apps", "") }
	inject(`{"kind":"status","count":2}`)
	must(t, 503, get())
	must(t, 503, get())
	must(t, 200, get())
	inject(`{"kind":"no-apps","count":1}`)
	if a := must(t, 200, get()); string(a.body) != `{"apps":[]}` {
		t.Errorf("%s", a.body)
	}
	inject(`{"kind":"empty","count":1}`)
	if a := must(t, 200, get()); len(a.body) != 0 {
		t.Errorf("%s", a.body)
	}
	inject(`{"kind":"half","count":1}`)
	resp, err := plainClient(t).Get(s.URL() + "/v2/apps")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(resp.Body).Decode(new(any)); err == nil {
		t.Error("half a body is whole")
	}
	resp.Body.Close()
	r := listen(t, s.URL(), "")
	headers(t, r)
	frame(t, r)
	inject(`{"kind":"drop"}`)
	for {
		if _, err := r.ReadByte(); err != nil {
			break
		}
	}
	inject(`{"kind":"status","status":500,"path":"/v2/info"}`)
	must(t, 500, ask(t, "GET", s.URL()+"/v2/info", ""))
	if a := ask(t, "GET", s.URL()+"/devcluster/faults", ""); !strings.Contains(string(a.body), `"path":"/v2/info"`) {
		t.Errorf("%s", a.body)
	}
	must(t, 204, ask(t, "DELETE", s.URL()+"/devcluster/faults", ""))
	must(t, 200, ask(t, "GET", s.URL()+"/v2/info", ""))
	must(t, 400, ask(t, "POST", s.URL()+"/devcluster/faults", `{"kind":"nonsense"}`))
}

func TestStandbyAndFailover(t *testing.T) {
	s := start(t, Config{Virtual: true, StandbyListen: []string{"127.0.0.1:0"}})
	must(t, 201, ask(t, "POST", s.StandbyURLs()[0]+"/v2/apps", `{"id":"web","cmd":"x","healthChecks":[{"protocol":"TCP","intervalSeconds":1000}]}`))
	a := must(t, 200, ask(t, "GET", s.StandbyURLs()[0]+"/v2/apps/web", ""))
	if a.header.Get("X-Marathon-Leader") != s.URL() || a.header.Get("X-Marathon-Via") != "1.1 "+strings.TrimPrefix(s.StandbyURLs()[0], "http://") {
		t.Errorf("%v", a.header)
	}
	a = must(t, 302, ask(t, "GET", s.StandbyURLs()[0]+"/v2/events?event_type=x", "", "Accept", "text/event-stream"))
	if a.header.Get("Location") != s.URL()+"/v2/events?event_type=x" {
		t.Errorf("%v", a.header)
	}
	must(t, 502, ask(t, "GET", s.StandbyURLs()[0]+"/ping", "", "X-Marathon-Via", "1.1 "+strings.TrimPrefix(s.StandbyURLs()[0], "http://")))
	must(t, 200, ask(t, "DELETE", s.URL()+"/v2/leader", ""))
	eventually(t, "a new leader", func() bool {
		a := ask(t, "GET", s.URL()+"/v2/leader", "")
		return a.status == 200 && a.header.Get("X-Marathon-Leader") == s.StandbyURLs()[0]
	})
	if v := view(t, s, "/web"); len(v.App.Tasks[0].HealthCheckResults) != 0 {
		t.Errorf("a new leader knows %v", v.App.Tasks[0].HealthCheckResults)
	}
}

func TestStandbyProxiesTheStream(t *testing.T) {
	s := start(t, Config{Virtual: true, StandbyListen: []string{"127.0.0.1:0"}, StandbyMode: "proxy"})
	r := listen(t, s.StandbyURLs()[0], "")
	if status, _ := headers(t, r); status != "HTTP/1.1 200 OK" {
		t.Error(status)
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := start(t, Config{Virtual: true, Username: "u", Password: "p"})
	for _, path := range []string{"/ping", "/metrics", "/v2/apps", "/v2/events", "/devcluster/faults"} {
		if a := must(t, 401, ask(t, "GET", s.URL()+path, "")); a.header.Get("WWW-Authenticate") != `Basic realm="Mesosphere"` {
			t.Errorf("%v", a.header)
		}
	}
	must(t, 200, ask(t, "GET", s.URL()+"/ping", "", "Authorization", "Basic dTpw"))
	s = start(t, Config{Virtual: true, Token: "secret"})
	must(t, 401, ask(t, "GET", s.URL()+"/v2/apps", ""))
	must(t, 401, ask(t, "GET", s.URL()+"/v2/apps", "", "Authorization", "Bearer other"))
	must(t, 200, ask(t, "GET", s.URL()+"/v2/apps", "", "Authorization", "Bearer secret"))
	must(t, 200, ask(t, "GET", s.URL()+"/v2/apps", "", "Authorization", "token=secret"))
	for _, addr := range []string{":0", "0.0.0.0:0", "192.0.2.1:0", "example.com:0"} {
		if _, err := Start(t.Context(), Config{Virtual: true, Listen: addr}); err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestPersistence(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Virtual: true, Dir: dir, Persist: true})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"/shop/web","cmd":"x","instances":2,"labels":{"a":"b"}}`))
	must(t, 201, ask(t, "POST", s.URL()+"/v2/pods", `{"id":"/pod","containers":[{"name":"c","exec":{"command":{"shell":"x"}},"endpoints":[{"name":"http","hostPort":0}]}]}`))
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/shop/web?force=true", `{"instances":3}`))
	settled(t, s, "/shop/web", 3)
	before := string(ask(t, "GET", s.URL()+"/v2/apps/shop/web/versions", "").body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, Config{Virtual: true, Dir: dir, Persist: true})
	settled(t, s, "/shop/web", 3)
	if after := string(ask(t, "GET", s.URL()+"/v2/apps/shop/web/versions", "").body); after != before {
		t.Errorf("versions %s, want %s", after, before)
	}
	eventually(t, "the pod", func() bool {
		return strings.Contains(string(ask(t, "GET", s.URL()+"/v2/pods/pod::status", "").body), `"status":"STABLE"`)
	})
}

func TestGroups(t *testing.T) {
	s := start(t, Config{Virtual: true})
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/groups", `{"id":"/","groups":[{"id":"shop","apps":[{"id":"web","cmd":"x","dependencies":["db"]},{"id":"db","cmd":"y"}]}]}`))
	settled(t, s, "/shop/web", 1)
	var g struct {
		Groups []struct {
			ID   string
			Apps []struct{ ID string }
		}
	}
	must(t, 200, ask(t, "GET", s.URL()+"/v2/groups", "")).into(t, &g)
	if len(g.Groups) != 1 || g.Groups[0].ID != "/shop" || len(g.Groups[0].Apps) != 2 {
		t.Errorf("%+v", g)
	}
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/groups/shop", `{"scaleBy":2}`))
	settled(t, s, "/shop/web", 2)
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/groups/shop?force=true", `{"apps":[{"id":"db","cmd":"y"}]}`))
	must(t, 404, ask(t, "GET", s.URL()+"/v2/apps/shop/web", ""))
	must(t, 200, ask(t, "DELETE", s.URL()+"/v2/groups/shop?force=true", ""))
	must(t, 404, ask(t, "GET", s.URL()+"/v2/groups/shop", ""))
}

func TestTaskKillWithScale(t *testing.T) {
	s := start(t, Config{Virtual: true})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"x","instances":3}`))
	settled(t, s, "/web", 3)
	victim := view(t, s, "/web").App.Tasks[0].ID
	a := must(t, 200, ask(t, "DELETE", s.URL()+"/v2/apps/web/tasks/"+victim+"?scale=true", ""))
	if !strings.Contains(string(a.body), "deploymentId") {
		t.Errorf("%s", a.body)
	}
	settled(t, s, "/web", 2)
	if strings.Contains(string(ask(t, "GET", s.URL()+"/v2/apps/web/tasks", "").body), victim) {
		t.Error("another task was killed")
	}
}

func TestReadinessGates(t *testing.T) {
	s := start(t, Config{})
	ready := filepath.Join(t.TempDir(), "ready")
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", fmt.Sprintf(`{"id":"web","cmd":"while ! test -f %s; do sleep 0.05; done; exec sleep 1000",
		"portDefinitions":[{"port":0,"name":"http"}],
		"readinessChecks":[{"name":"r","portName":"http","intervalSeconds":0.05,"timeoutSeconds":5}]}`, ready)))
	eventually(t, "a result", func() bool {
		return strings.Contains(string(ask(t, "GET", s.URL()+"/v2/apps?embed=apps.tasks&embed=apps.readiness", "").body), `"ready":false`)
	})
	if v := view(t, s, "/web"); len(v.App.Deployments) != 1 {
		t.Error("the deployment did not wait")
	}
}

func TestThirdPartiesRequests(t *testing.T) {
	s := start(t, Config{Virtual: true, Emulate: "1.4"})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"web","cmd":"x","ports":[0],"labels":{"HAPROXY_GROUP":"external"}}`))
	settled(t, s, "/web", 1)
	for _, q := range []string{
		"embed=apps.tasks", "embed=apps.tasks&embed=apps.deployments&embed=apps.readiness", "embed=app.tasks&embed=app.deployments&embed=app.readiness",
		"label=HAPROXY_GROUP==external&embed=apps.tasks", "label=HAPROXY_GROUP+in+(a,external)&embed=apps.tasks",
	} {
		var v struct {
			Apps []struct {
				Ports  []int
				Labels map[string]string
				Tasks  []struct {
					Host  string
					Ports []int
				}
			}
		}
		must(t, 200, ask(t, "GET", s.URL()+"/v2/apps?"+q, "", "Accept-Encoding", "identity")).into(t, &v)
		if len(v.Apps) != 1 || len(v.Apps[0].Ports) != 1 || len(v.Apps[0].Tasks) != 1 || len(v.Apps[0].Tasks[0].Ports) != 1 {
			t.Errorf("%s: %+v", q, v)
		}
	}
	if a := ask(t, "GET", s.URL()+"/v2/apps?label=nix", ""); string(a.body) != `{"apps":[]}` {
		t.Errorf("%s", a.body)
	}
}

// TestFiveThousandApps keeps what a benchmark of that size needs: loading in bulk, and a change that costs its app only.
func TestFiveThousandApps(t *testing.T) {
	s := start(t, Config{Virtual: true})
	var b strings.Builder
	b.WriteString("[")
	for n := range 5000 {
		if n > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"id":"/g%d/app-%d","cmd":"x","instances":3,"labels":{"signalbox.host":"a%[2]d.local"}}`, n%50, n)
	}
	b.WriteString("]")
	begun := time.Now()
	must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps", b.String()))
	eventually(t, "all tasks", func() bool { return string(ask(t, "GET", s.URL()+"/v2/deployments", "").body) == "[]" })
	t.Logf("loaded in %s", time.Since(begun))
	begun = time.Now()
	a := must(t, 200, ask(t, "GET", s.URL()+"/v2/apps?embed=apps.tasks", ""))
	t.Logf("%d bytes of apps in %s", len(a.body), time.Since(begun))
	r := listen(t, s.URL(), "?event_type=status_update_event")
	headers(t, r)
	begun = time.Now()
	must(t, http.StatusOK, ask(t, "PUT", s.URL()+"/v2/apps/g7/app-7", `{"instances":4}`))
	for {
		if _, v := frame(t, r); v["taskStatus"] == "TASK_RUNNING" {
			break
		}
	}
	t.Logf("a scale-up runs after %s", time.Since(begun))
}
