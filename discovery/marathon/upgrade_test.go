package marathon_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox"
	"signalbox/devcluster"
	"signalbox/discovery"
	"signalbox/discovery/marathon"
)

// The versions of an app that TestUpgradeKeepsTheShapeOfOldTasks rolls through: each adds, moves or renames ports, or changes the
// network mode. From the second on a task never gets healthy, so that the deployment stands still with tasks of both versions.
const (
	onePort = `"portDefinitions":[{"port":0,"name":"http"}]`
	moved   = `"portDefinitions":[{"port":0,"name":"admin"},{"port":0,"name":"http"}]`
	bridged = `"networks":[{"mode":"container/bridge"}],"container":{"type":"MESOS",
		"portMappings":[{"containerPort":9090,"name":"admin"},{"containerPort":8080,"name":"http"}]}`
	renamed  = `"portDefinitions":[{"port":0,"name":"web"},{"port":0,"name":"admin"}]`
	unending = `,"healthChecks":[{"protocol":"TCP","portIndex":1,"gracePeriodSeconds":300,"intervalSeconds":1}]`
)

// TestUpgradeKeepsTheShapeOfOldTasks rolls real deployments on a Marathon that shares no code with the source, and looks at them with
// a source that has seen the version before and with one that has not.
func TestUpgradeKeepsTheShapeOfOldTasks(t *testing.T) {
	for _, emulate := range []string{"1.11", "1.4"} {
		for name, next := range map[string]string{"moved": moved, "bridged": bridged, "renamed": renamed} {
			if emulate == "1.4" && name == "bridged" {
				continue // a bridge is Docker's there, and nobody runs Docker here; the goldens have that shape
			}
			t.Run(emulate+" "+name, func(t *testing.T) {
				t.Parallel()
				cluster, err := devcluster.Start(context.Background(), devcluster.Config{Emulate: emulate, Agents: []string{"127.0.0.2"}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := cluster.Close(); err != nil {
						t.Error(err)
					}
				})
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(context.Background())
				defer wg.Wait()
				defer cancel()
				follow := func() func(what string, ok func(*signalbox.Table) bool) *signalbox.Table {
					src, err := marathon.New(marathon.Config{URLs: []string{cluster.URL()}, Convert: marathon.Options{AllowLoopback: true}})
					if err != nil {
						t.Fatal(err)
					}
					out := make(chan *discovery.Change)
					wg.Go(func() {
						if err := discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}}).Run(ctx, out); err != nil {
							t.Error(err)
						}
					})
					return func(what string, ok func(*signalbox.Table) bool) *signalbox.Table {
						t.Helper()
						var table *signalbox.Table
						deadline := time.After(time.Minute)
						for {
							select {
							case c := <-out:
								if table = c.Table; ok(table) {
									return table
								}
							case <-deadline:
								t.Fatalf("waiting for %s: %s", what, strings.Join(signalbox.DiffText(nil, table), "\n"))
							}
						}
					}
				}
				endpoints := func(table *signalbox.Table, port string) []signalbox.Endpoint {
					i := slices.IndexFunc(table.Services, func(s *signalbox.Service) bool { return s.PortName == port })
					if i < 0 {
						return nil
					}
					return table.Services[i].Endpoints
				}
				definition := func(ports string, names ...string) string {
					labels := make([]string, len(names))
					for i, name := range names {
						labels[i] = fmt.Sprintf(`"signalbox.%s.host":"%s.local"`, name, name)
					}
					return fmt.Sprintf(`{"id":"/web","cmd":"exec sleep 1000","instances":2,"cpus":0.01,"mem":16,%s,"labels":{%s}}`, ports, strings.Join(labels, ","))
				}
				seen := follow()
				call(t, http.MethodPost, cluster.URL()+"/v2/apps", definition(onePort, "http"))
				table := seen("two tasks", func(table *signalbox.Table) bool { return len(endpoints(table, "http")) == 2 })
				old := endpoints(table, "http")

				main := "http"
				if name == "renamed" {
					main = "web"
				}
				call(t, http.MethodPut, cluster.LeaderURL()+"/v2/apps//web", definition(next+unending, main, "admin"))
				both := func(table *signalbox.Table) bool {
					return len(endpoints(table, main)) > 2 && len(endpoints(table, "admin")) > 0
				}
				for who, table := range map[string]*signalbox.Table{
					"seen": seen("tasks of both versions", both), "fresh": follow()("tasks of both versions", both),
				} {
					for _, e := range old {
						if !slices.ContainsFunc(endpoints(table, main), func(n signalbox.Endpoint) bool { return n.Task == e.Task && n.Addr == e.Addr }) {
							t.Errorf("%s: the old task %s is no longer at %s: %v", who, e.Task, e.Addr, endpoints(table, main))
						}
					}
					for _, e := range endpoints(table, "admin") {
						if slices.ContainsFunc(old, func(o signalbox.Endpoint) bool { return o.Task == e.Task }) {
							t.Errorf("%s: the old task %s has a port that its version had not: %s", who, e.Task, e.Addr)
						}
					}
					for _, p := range table.AllProblems() {
						t.Errorf("%s: %s", who, p)
					}
				}
			})
		}
	}
}
