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

// TestAgainstDevCluster takes an app through its life on a Marathon that shares no code with the source: real processes, the real
// event stream, in both shapes, behind a standby that redirects.
func TestAgainstDevCluster(t *testing.T) {
	for _, emulate := range []string{"1.11", "1.4"} {
		t.Run(emulate, func(t *testing.T) {
			cluster, err := devcluster.Start(context.Background(), devcluster.Config{
				Emulate: emulate, Agents: []string{"127.0.0.2", "127.0.0.3"}, StandbyListen: []string{"127.0.0.1:0"},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := cluster.Close(); err != nil {
					t.Error(err)
				}
			})
			told := make(chan string, 1000)
			src, err := marathon.New(marathon.Config{
				Deploying: func(app string, running bool) { told <- fmt.Sprint(app, " ", running) },
				URLs:      append(cluster.StandbyURLs(), cluster.URL()), Convert: marathon.Options{AllowLoopback: true},
				Resync: time.Hour, ResyncDown: time.Hour, // what is seen here comes of events
			})
			if err != nil {
				t.Fatal(err)
			}
			w := discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}})
			ctx, cancel := context.WithCancel(context.Background())
			out := make(chan *discovery.Change)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := w.Run(ctx, out); err != nil {
					t.Error(err)
				}
			})
			defer wg.Wait()
			defer cancel()

			var table *signalbox.Table
			next := func(what string, ok func() bool) {
				t.Helper()
				deadline := time.After(30 * time.Second)
				for !ok() {
					select {
					case c := <-out:
						table = c.Table
					case <-deadline:
						t.Fatalf("waiting for %s: %s\n%+v", what, strings.Join(signalbox.DiffText(nil, table), "\n"), w.Status())
					}
				}
			}
			up := func() (n int) {
				if s := table.Service("/shop/web:0"); s != nil {
					for _, e := range s.Endpoints {
						if e.State == signalbox.Up {
							n++
						}
					}
				}
				return n
			}
			scale := func(n int) {
				t.Helper()
				call(t, http.MethodPut, cluster.LeaderURL()+"/v2/apps//shop/web", fmt.Sprintf(`{"instances":%d}`, n))
			}
			next("the first table", func() bool { return table != nil })
			connected := func() {
				for end := time.Now().Add(20 * time.Second); !w.Status()[0].Connected && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
			}
			connected()
			call(t, http.MethodPost, cluster.URL()+"/v2/apps", `{"id":"/shop/web","cmd":"exec sleep 1000","instances":2,"cpus":0.01,"mem":16,
				"portDefinitions":[{"port":0,"name":"http"}],"labels":{"signalbox.host":"shop.local"}}`)
			next("two tasks", func() bool { return up() == 2 })
			s := table.Service("/shop/web:0")
			if want := []signalbox.Route{{Host: "shop.local", Path: "/"}}; !slices.Equal(s.Routes, want) {
				t.Errorf("routes %v, want %v", s.Routes, want)
			}
			for _, e := range s.Endpoints {
				if a := e.Addr.Addr().String(); a != "127.0.0.2" && a != "127.0.0.3" {
					t.Errorf("an endpoint at %s", e.Addr)
				}
			}
			deployed := func(n int) {
				t.Helper()
				for _, want := range slices.Repeat([]string{"/shop/web true", "/shop/web false"}, n) {
					select {
					case got := <-told:
						if got != want {
							t.Errorf("told %q, want %q", got, want)
						}
					case <-time.After(20 * time.Second):
						t.Fatalf("nobody says %q", want)
					}
				}
			}
			deployed(1)
			scale(5)
			deployed(1)
			next("five tasks", func() bool { return up() == 5 })
			scale(1)
			next("one task", func() bool { return up() == 1 })
			deployed(1)

			for i, kind := range []string{"drop", "abdicate", "failover"} {
				if _, err := cluster.Inject(devcluster.Fault{Kind: kind}); err != nil {
					t.Fatal(err)
				}
				scale(2 + i)
				next(fmt.Sprintf("%d tasks after %s", 2+i, kind), func() bool { return up() == 2+i })
			}
			connected()
			call(t, http.MethodDelete, cluster.LeaderURL()+"/v2/apps//shop/web", "")
			next("no app", func() bool { return len(table.Services) == 0 })
			if st := w.Status()[0]; st.Level == signalbox.Failing || st.Quarantined != "" {
				t.Errorf("status %+v", st)
			}
			about, err := src.About(t.Context())
			if err != nil || !strings.HasPrefix(about.Version, emulate) {
				t.Errorf("About: %+v, %v", about, err)
			}
		})
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// call sends a request, again while the app is locked by a deployment or nobody leads.
func call(t *testing.T, method, url, body string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 300 {
			return
		}
		if resp.StatusCode != http.StatusConflict && resp.StatusCode < 500 || time.Now().After(end) {
			t.Fatalf("%s %s: %s", method, url, resp.Status)
		}
	}
}
