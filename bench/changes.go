package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"signalbox/loadgen"
)

// scale changes how many tasks apps have, and kills some, each after a pause, until all changes are made. after is called after each.
func (w *world) scale(ctx context.Context, pause time.Duration, after func() error) error {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a choice of apps
	next := time.Now()
	for n := 0; w.done.Load() < int64(w.b.changes); n++ {
		id := fmt.Sprintf("/churn/scaled-%d", n%scaledApps)
		if n%10 == 9 {
			if err := w.killOne(ctx, id); err != nil {
				return err
			}
			w.note("move")
		} else {
			size := w.size[id]
			if size += 1 - 2*rng.IntN(2); size < tasksLeast {
				size = tasksLeast + 1
			} else if size > tasksMost {
				size = tasksMost - 1
			}
			w.size[id] = size
			if err := w.put(ctx, "/v2/apps/"+id+"?force=true", map[string]any{"instances": size}); err != nil {
				return err
			}
			w.note("scale")
		}
		if err := after(); err != nil {
			return err
		}
		next = next.Add(pause)
		if err := sleep(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	return nil
}

// note counts one change.
func (w *world) note(kind string) {
	w.kinds[kind].Add(1)
	w.done.Add(1)
}

// killOne kills one task of an app, which Marathon replaces.
func (w *world) killOne(ctx context.Context, id string) error {
	var got struct {
		Tasks []struct{ ID, State string } `json:"tasks"`
	}
	if err := w.get(ctx, "/v2/apps/"+id+"/tasks", &got); err != nil {
		return err
	}
	running := 0
	victim := ""
	for _, t := range got.Tasks {
		if t.State == "TASK_RUNNING" {
			running++
			victim = t.ID
		}
	}
	if running < tasksLeast {
		return nil
	}
	text, err := json.Marshal(map[string]any{"ids": []string{victim}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cluster.URL()+"/v2/tasks/delete", strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return w.do(req, nil)
}

// roll deploys new versions of an app, each after the one before, spread over a span.
func (w *world) roll(ctx context.Context, id string, times int, span time.Duration) error {
	began := time.Now()
	for n := range times {
		if err := sleep(ctx, time.Until(began.Add(span*time.Duration(n)/time.Duration(times)))); err != nil {
			return err
		}
		if err := w.put(ctx, "/v2/apps/"+id, map[string]any{"env": map[string]string{"VERSION": fmt.Sprint(n)}}); err != nil {
			return err
		}
		if err := w.deployed(ctx, id); err != nil {
			return err
		}
		w.rolled.Add(1)
	}
	return nil
}

// deployed waits until no deployment of an app, of any app if it is "", goes on.
func (w *world) deployed(ctx context.Context, id string) error {
	type deployment struct{ AffectedApps []string }
	for end := time.Now().Add(deadline); ; {
		var all []deployment
		if err := w.get(ctx, "/v2/deployments", &all); err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(d deployment) bool { return id == "" || slices.Contains(d.AffectedApps, id) }) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("a deployment of %q does not end", id)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// pull forces reloads, spread over a span: an app without tasks asks for another service port each time.
func (w *world) pull(ctx context.Context, span time.Duration) error {
	began := time.Now()
	for n := range w.b.reloads {
		if err := sleep(ctx, time.Until(began.Add(span*time.Duration(n)/time.Duration(w.b.reloads)))); err != nil {
			return err
		}
		before, err := w.admin.Health(ctx)
		if err != nil {
			return err
		}
		w.pulled++
		if err := w.put(ctx, "/v2/apps//churn/lever?force=true", w.leverApp()); err != nil {
			return err
		}
		for end := time.Now().Add(deadline); ; {
			now, err := w.admin.Health(ctx)
			if err != nil {
				return err
			}
			if now.HAProxy.Reloads > before.HAProxy.Reloads {
				break
			}
			if time.Now().After(end) {
				return errors.New("a reload does not come")
			}
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// staticServices are services outside the cluster, whose file changes: hosts, weights, and addresses that come, drain and go.
type staticServices struct {
	path    string
	version int // of the file
	servers []*http.Server
	addrs   []string
}

// staticID is the app that answers for static services.
const staticID = "/static"

func newStaticServices(dir string) (*staticServices, error) {
	s := &staticServices{path: filepath.Join(dir, "static.json")}
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		server := &http.Server{ReadHeaderTimeout: deadline, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(appHeader, staticID)
			w.Header().Set("Content-Length", "2")
			_, _ = w.Write([]byte("ok")) // a client that went away is its own affair
		})}
		go func() { _ = server.Serve(l) }() // until close
		s.servers, s.addrs = append(s.servers, server), append(s.addrs, l.Addr().String())
	}
	return s, s.write()
}

func (s *staticServices) close() error {
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	return errors.Join(errs...)
}

func (s *staticServices) host(version int) string {
	return fmt.Sprintf("host-%d.churn.local", max(0, version))
}

// write writes the file of a version: its host and the one before, a share of a name, and two of the addresses, with a third that drains.
func (s *staticServices) write() error {
	service := func(name string, addresses []any, labels map[string]string) map[string]any {
		return map[string]any{"name": staticID + "/" + name, "addresses": addresses, "labels": labels, "health": map[string]any{"path": "/", "interval": "1s"}}
	}
	at := func(i int) any { return s.addrs[(s.version+i)%len(s.addrs)] }
	share := 10 + s.version*7%80
	fixed := []any{s.addrs[0], s.addrs[1]}
	text, err := json.Marshal(map[string]any{"services": []any{
		service("hosts", fixed, map[string]string{"signalbox.host": s.host(s.version-1) + " " + s.host(s.version)}),
		service("old", fixed, map[string]string{"signalbox.host": "split.churn.local", "signalbox.weight": fmt.Sprint(share)}),
		service("new", fixed, map[string]string{"signalbox.host": "split.churn.local", "signalbox.weight": fmt.Sprint(100 - share)}),
		service("moves", []any{at(1), at(2), map[string]any{"address": at(0), "draining": true}}, map[string]string{"signalbox.host": "moves.churn.local"}),
	}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// targets returns what may be asked for: of the two hosts the older one, which is known to be there.
func (s *staticServices) targets(proxy string) (all []loadgen.Target) {
	for _, host := range []string{s.host(s.version), "split.churn.local", "moves.churn.local"} {
		all = append(all, loadgen.Target{Name: host, URL: "http://" + proxy, Host: host, Expect: staticID, Weight: 10})
	}
	return all
}

// rewrite changes the static services until all changes are made. Requests ask for a host once it has answered, and it goes when the last
// of them is answered.
func (w *world) rewrite(ctx context.Context, l *load) error {
	for w.done.Load() < int64(w.b.changes) {
		before := w.static.host(w.static.version)
		w.static.version++
		if err := w.static.write(); err != nil {
			return err
		}
		if _, err := w.answered(ctx, w.static.host(w.static.version), deadline, func(http.Header) bool { return true }); err != nil {
			return err
		}
		w.note("host")
		w.note("weight")
		w.note("drain")
		if err := l.setTargets(append(w.targets(w.proxy), w.static.targets(w.proxy)...)); err != nil {
			return err
		}
		for end := time.Now().Add(deadline); l.inFlight(before) > 0; {
			if time.Now().After(end) {
				return fmt.Errorf("requests for %s are not answered", before)
			}
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// inFlight returns how many requests under a name have no answer yet.
func (l *load) inFlight(name string) uint64 {
	return l.fresh.Report().Target(name).InFlight + l.kept.Report().Target(name).InFlight
}
