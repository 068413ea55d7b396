package devcluster

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	marathon "github.com/gambol99/go-marathon"
	"github.com/google/go-cmp/cmp"
)

// switchable is a transport that can be switched off: go-marathon's event stream reconnects for ever.
type switchable struct {
	http.RoundTripper
	off atomic.Bool
}

func (s *switchable) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.off.Load() {
		return nil, errors.New("switched off")
	}
	return s.RoundTripper.RoundTrip(r)
}

// goMarathon is a client that nobody here wrote.
func goMarathon(t *testing.T, s *Server) marathon.Marathon {
	t.Helper()
	tr := &switchable{RoundTripper: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() { tr.off.Store(true) })
	config := marathon.NewDefaultConfig()
	config.URL = s.URL()
	config.EventsTransport = marathon.EventsTransportSSE
	config.PollingWaitTime = 10 * time.Millisecond
	config.HTTPClient = &http.Client{Transport: tr}
	client, err := marathon.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func everyEmulation(t *testing.T, f func(t *testing.T, emulate string)) {
	for _, emulate := range []string{"1.11", "1.4"} {
		t.Run(emulate, func(t *testing.T) { f(t, emulate) })
	}
}

// deployed waits for the deployment that a call has started.
func deployed(t *testing.T, client marathon.Marathon) func(*marathon.DeploymentID, error) *marathon.DeploymentID {
	return func(d *marathon.DeploymentID, err error) *marathon.DeploymentID {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if d.DeploymentID == "" || d.Version == "" {
			t.Fatalf("deployment %+v", d)
		}
		if err := client.WaitOnDeployment(d.DeploymentID, 20*time.Second); err != nil {
			t.Fatalf("deployment %s: %v", d.DeploymentID, err)
		}
		return d
	}
}

func sleeper(id string, instances int) *marathon.Application {
	app := marathon.NewDockerApplication().Name(id).Command("exec sleep 1000").Count(instances).CPU(0.1).Memory(32)
	app.Container = nil
	return app
}

// TestGoMarathon takes an app through its life.
func TestGoMarathon(t *testing.T) {
	everyEmulation(t, func(t *testing.T, emulate string) {
		s := start(t, Config{Emulate: emulate, Agents: []string{"127.0.0.2", "127.0.0.3"}})
		client := goMarathon(t, s)
		if ok, err := client.Ping(); err != nil || !ok {
			t.Fatalf("ping: %v, %v", ok, err)
		}
		app := sleeper("/shop/web", 2)
		app.AddLabel("tier", "front")
		created, err := client.CreateApplication(app)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.WaitOnApplication("/shop/web", 20*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, d := range created.DeploymentIDs() {
			if err := client.WaitOnDeployment(d.DeploymentID, 20*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		deployed(t, client)(client.ScaleApplicationInstances("/shop/web", 3, false))
		settled(t, s, "/shop/web", 3)
		hosts := map[string]bool{}
		tasks, err := client.Tasks("/shop/web")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks.Tasks {
			hosts[task.Host] = true
		}
		if len(tasks.Tasks) != 3 || len(hosts) != 2 {
			t.Errorf("%d tasks on %v", len(tasks.Tasks), hosts)
		}
		if _, err := client.KillApplicationTasks("/shop/web", &marathon.KillApplicationTasksOpts{Host: tasks.Tasks[0].Host}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a killed task's replacement", func() bool {
			for _, now := range view(t, s, "/shop/web").App.Tasks {
				if now.ID == tasks.Tasks[0].ID {
					return false
				}
			}
			return view(t, s, "/shop/web").App.TasksRunning == 3
		})
		if _, err := client.DeleteApplication("/shop/web", true); err != nil {
			t.Fatal(err)
		}
		eventually(t, "deletion", func() bool {
			deployments, err := client.Deployments()
			return err == nil && len(deployments) == 0
		})
		apps, err := client.Applications(nil)
		if err != nil || len(apps.Apps) != 0 {
			t.Errorf("apps left: %v, %v", apps, err)
		}
		if leader, err := client.Leader(); err != nil || "http://"+leader != s.URL() {
			t.Errorf("leader %q, %v", leader, err)
		}
		if _, err := client.Info(); err != nil {
			t.Error(err)
		}
	})
}

// TestGoMarathonFollowsTheStream expects the client to read from events what has been done to an app.
func TestGoMarathonFollowsTheStream(t *testing.T) {
	everyEmulation(t, func(t *testing.T, emulate string) {
		s := start(t, Config{Emulate: emulate, Virtual: true})
		client := goMarathon(t, s)
		events, err := client.AddEventsListener(marathon.EventIDApplications | marathon.EventIDAPIRequest |
			marathon.EventIDGroupChangeSuccess | marathon.EventIDDeploymentSuccess | marathon.EventIDDeploymentInfo | marathon.EventIDDeploymentStepSuccess)
		if err != nil {
			t.Fatal(err)
		}
		defer client.RemoveEventsListener(events)
		seen := map[string]int{}
		// until counts what comes until enough of it has; the client hands events over in no order.
		until := func(want map[string]int) {
			t.Helper()
			clear(seen)
			hung := time.After(20 * time.Second)
			for {
				missing := false
				for k, n := range want {
					missing = missing || seen[k] < n
				}
				if !missing {
					break
				}
				select {
				case e := <-events:
					switch v := e.Event.(type) {
					case *marathon.EventStatusUpdate:
						if v.AppID != "/web" || v.Host == "" || len(v.Ports) != 1 || v.TaskID == "" || v.Version == "" || v.SlaveID == "" {
							t.Errorf("%+v", v)
						}
						seen[v.TaskStatus]++
					case *marathon.EventAPIRequest:
						if v.AppDefinition == nil || v.AppDefinition.ID != "/web" {
							t.Errorf("%+v", v)
						}
						seen[e.Name]++
					case *marathon.EventDeploymentSuccess:
						if v.ID == "" {
							t.Errorf("%+v", v)
						}
						seen[e.Name]++
					default:
						seen[e.Name]++
					}
				case <-hung:
					t.Fatalf("(-want +got)\n%s", cmp.Diff(want, seen))
				}
			}
		}
		wait := deployed(t, client)
		if _, err := client.CreateApplication(sleeper("/web", 2)); err != nil {
			t.Fatal(err)
		}
		until(map[string]int{"TASK_RUNNING": 2, "deployment_success": 1, "api_post_event": 1, "group_change_success": 1, "deployment_info": 1, "deployment_step_success": 1})
		wait(client.ScaleApplicationInstances("/web", 3, false))
		until(map[string]int{"TASK_RUNNING": 1, "deployment_success": 1})
		before, err := client.Tasks("/web")
		if err != nil {
			t.Fatal(err)
		}
		wait(client.RestartApplication("/web", false))
		until(map[string]int{"TASK_RUNNING": 3, "TASK_KILLED": 3, "deployment_success": 1})
		after, err := client.Tasks("/web")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range after.Tasks {
			if slices.ContainsFunc(before.Tasks, func(old marathon.Task) bool { return old.ID == task.ID || old.Version == task.Version }) {
				t.Errorf("the restart left %s", task.ID)
			}
		}
		if victim := after.Tasks[0].ID; emulate == "1.4" {
			if killed, err := client.KillTask(victim, nil); err != nil || killed.ID != victim {
				t.Errorf("killed %+v, %v", killed, err)
			}
		} else if err := client.KillTasks([]string{victim}, nil); err != nil { // the client's KillTask cannot read ids of 1.11
			t.Error(err)
		}
		until(map[string]int{"TASK_KILLED": 1, "TASK_RUNNING": 1})
		wait(client.ScaleApplicationInstances("/web", 0, false))
		until(map[string]int{"TASK_KILLED": 3, "deployment_success": 1})
		wait(client.DeleteApplication("/web", false))
		until(map[string]int{"app_terminated_event": 1, "deployment_success": 1})
	})
}

// TestGoMarathonIsHeldUp deploys what can only end by force.
func TestGoMarathonIsHeldUp(t *testing.T) {
	everyEmulation(t, func(t *testing.T, emulate string) {
		s := start(t, Config{Emulate: emulate})
		client := goMarathon(t, s)
		if _, err := client.CreateApplication(sleeper("/web", 1)); err != nil {
			t.Fatal(err)
		}
		settled(t, s, "/web", 1)
		first := view(t, s, "/web").App.Version
		// The client knows no readiness checks.
		unready := `{"instances":2,"cmd":"exec sleep 1001","portDefinitions":[{"port":0,"name":"http"}],
			"readinessChecks":[{"name":"ready","portName":"http","intervalSeconds":1,"timeoutSeconds":1}]}`
		hold := func() string {
			t.Helper()
			return must(t, 200, ask(t, "PUT", s.URL()+"/v2/apps/web?force=true", unready)).header.Get("Marathon-Deployment-Id")
		}
		held := hold()
		if ok, err := client.HasDeployment(held); err != nil || !ok {
			t.Errorf("held up: %v, %v", ok, err)
		}
		all, err := client.Deployments()
		if err != nil || len(all) != 1 || len(all[0].AffectedApps) != 1 || all[0].AffectedApps[0] != "/web" || len(all[0].CurrentActions) != 1 {
			t.Errorf("%+v, %v", all, err)
		}
		if _, err := client.ScaleApplicationInstances("/web", 3, false); !isAPIError(err, marathon.ErrCodeAppLocked) {
			t.Errorf("scaling meanwhile: %v", err)
		}
		if err := client.WaitOnDeployment(held, 50*time.Millisecond); !errors.Is(err, marathon.ErrTimeoutError) {
			t.Errorf("waiting: %v", err)
		}
		back, err := client.DeleteDeployment(held, false)
		if err != nil || back.DeploymentID == "" {
			t.Fatalf("rolling back: %+v, %v", back, err)
		}
		settled(t, s, "/web", 1)
		held = hold()
		must(t, 202, ask(t, "DELETE", s.URL()+"/v2/deployments/"+held+"?force=true", "")) // the client does not pass force on
		if ok, err := client.HasDeployment(held); err != nil || ok {
			t.Errorf("still there: %v, %v", ok, err)
		}
		versions, err := client.ApplicationVersions("/web")
		if err != nil || len(versions.Versions) < 3 {
			t.Fatalf("%+v, %v", versions, err)
		}
		old, err := client.ApplicationByVersion("/web", first)
		if err != nil || *old.Instances != 1 || old.Version != first {
			t.Errorf("%+v, %v", old, err)
		}
		deployed(t, client)(client.SetApplicationVersion("/web", &marathon.ApplicationVersion{Version: first}))
		settled(t, s, "/web", 1)
		hold()
		deployed(t, client)(client.DeleteApplication("/web", true)) // it ends the one that is held up
		if _, err := client.Application("/web"); !isAPIError(err, marathon.ErrCodeNotFound) {
			t.Errorf("deleted: %v", err)
		}
	})
}

// TestGoMarathonGroupsAndQueue makes, changes and removes a group, and reads what waits to be launched.
func TestGoMarathonGroupsAndQueue(t *testing.T) {
	everyEmulation(t, func(t *testing.T, emulate string) {
		s := start(t, Config{Emulate: emulate, Virtual: true})
		client := goMarathon(t, s)
		group := marathon.NewApplicationGroup("/shop")
		group.App(sleeper("/shop/web", 2)).App(sleeper("/shop/db", 1))
		if err := client.CreateGroup(group); err != nil {
			t.Fatal(err)
		}
		if err := client.WaitOnGroup("/shop", 20*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := client.CreateGroup(group); !isAPIError(err, marathon.ErrCodeDuplicateID) {
			t.Errorf("once more: %v", err)
		}
		smaller := marathon.NewApplicationGroup("/shop")
		smaller.App(sleeper("/shop/web", 3))
		deployed(t, client)(client.UpdateGroup("/shop", smaller, false))
		got, err := client.GroupBy("/shop", &marathon.GetGroupOpts{Embed: []string{"group.apps"}})
		if err != nil || len(got.Apps) != 1 || *got.Apps[0].Instances != 3 {
			t.Errorf("%+v, %v", got, err)
		}
		if all, err := client.Groups(); err != nil || all.ID != "/" || len(all.Groups) != 1 || all.Groups[0].ID != "/shop" {
			t.Errorf("%+v, %v", all, err)
		}
		all, err := client.AllTasks(&marathon.AllTasksOpts{Status: "running"})
		if err != nil || len(all.Tasks) != 3 {
			t.Errorf("%+v, %v", all, err)
		}
		var ids []string
		for _, task := range all.Tasks {
			ids = append(ids, task.ID)
		}
		if err := client.KillTasks(ids[:2], &marathon.KillTaskOpts{Scale: true}); err != nil {
			t.Error(err)
		}
		settled(t, s, "/shop/web", 1)
		deployed(t, client)(client.DeleteGroup("/shop", false))
		if ok, err := client.HasGroup("/shop"); err != nil || ok {
			t.Errorf("deleted: %v, %v", ok, err)
		}
		huge := sleeper("/huge", 2)
		huge.AddConstraint("hostname", "LIKE", "nowhere")
		if _, err := client.CreateApplication(huge); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the queue", func() bool {
			q, err := client.Queue()
			return err == nil && len(q.Items) == 1 && q.Items[0].Application.ID == "/huge" && q.Items[0].Count == 2
		})
		if err := client.DeleteQueueDelay("/huge"); err != nil {
			t.Error(err)
		}
		if _, err := client.CreateApplication(sleeper("/Not_Valid", 1)); err == nil || !strings.Contains(fmt.Sprint(err), "must fully match regular expression") {
			t.Errorf("an invalid id: %v", err)
		}
	})
}

func isAPIError(err error, code int) bool {
	e := new(marathon.APIError)
	return errors.As(err, &e) && e.ErrCode == code
}
