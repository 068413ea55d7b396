package devcluster

import (
	"net/http"
	"testing"
	"time"

	marathon "github.com/gambol99/go-marathon"
)

// TestGoMarathon takes an app through its life with a client that nobody here wrote.
func TestGoMarathon(t *testing.T) {
	for _, emulate := range []string{"1.11", "1.4"} {
		t.Run(emulate, func(t *testing.T) {
			s := start(t, Config{Emulate: emulate, Agents: []string{"127.0.0.2", "127.0.0.3"}})
			tr := &http.Transport{DisableKeepAlives: true}
			config := marathon.NewDefaultConfig()
			config.URL = s.URL()
			config.HTTPClient = &http.Client{Transport: tr, Timeout: 20 * time.Second}
			client, err := marathon.NewClient(config)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := client.Ping(); err != nil || !ok {
				t.Fatalf("ping: %v, %v", ok, err)
			}
			app := marathon.NewDockerApplication().Name("/shop/web").Command("exec sleep 1000").Count(2).CPU(0.1).Memory(32)
			app.Container = nil
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
			d, err := client.ScaleApplicationInstances("/shop/web", 3, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.WaitOnDeployment(d.DeploymentID, 20*time.Second); err != nil {
				t.Fatal(err)
			}
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
}
