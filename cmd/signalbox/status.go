package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// status says how the controller fares now.
func (c *controller) status() signalbox.Status {
	s := c.levels()
	s.Version, s.Started, s.At = version(), c.started, time.Now()
	s.Table, s.Problems, s.Logs, s.Metrics = c.table(), c.allProblems(), c.journal.recent(), c.recent.points()
	s.LastHits = map[signalbox.ServiceID]time.Time{}
	if wanted := c.wanted.Load(); wanted != nil {
		s.Standings = wanted.Standings()
	}
	s.Nearby = nearby(s.Table, c.options.Nearby())
	for service, at := range c.aggregator.LastHits() {
		s.LastHits[signalbox.ServiceID(service)] = at
	}
	return s
}

// levels is the part of a status that the verdict is made of. It costs the same however many apps there are.
func (c *controller) levels() signalbox.Status {
	view := c.holding.view()
	return signalbox.Status{
		Sources: c.watcher.Status(), HAProxy: c.haproxyStatus(), Log: c.logStatus(), Sinks: c.sinkStatus(), StatsD: c.statsdStatus(),
		Holds: view.holds, Kept: view.kept,
	}
}

// table returns what is routed; before anything is, what the sources say.
func (c *controller) table() *signalbox.Table {
	if view := c.holding.view(); view.routed != nil {
		return view.routed
	}
	return c.watcher.Table()
}

// nearby counts the tasks of each service that are on this machine, nil where it prefers none.
func nearby(t *signalbox.Table, near func(*signalbox.Endpoint) bool) map[signalbox.ServiceID]int {
	if near == nil {
		return nil
	}
	counts := map[signalbox.ServiceID]int{}
	for _, s := range t.Services {
		for i := range s.Endpoints {
			if near(&s.Endpoints[i]) {
				counts[s.ID]++
			}
		}
	}
	return counts
}

// silentAfter is for how long HAProxy may leave a question open that it is asked each second.
const silentAfter = 4 * time.Second

// haproxyStatus says how HAProxy fares. One that is there and mute, because it is stopped or hangs, is failing.
func (c *controller) haproxyStatus() signalbox.HAProxyStatus {
	s := c.applier.Status()
	if at := c.answered.Load(); at != 0 && s.Level == signalbox.OK {
		if silent := time.Since(time.Unix(0, at)); silent > silentAfter {
			s.Level, s.Detail = signalbox.Failing, fmt.Sprintf("its workers have not answered for %s", silent.Round(time.Second))
		}
	}
	if detail := c.certificates.Health(time.Now()); detail != "" && s.Level == signalbox.OK {
		s.Level, s.Detail = signalbox.Degraded, detail
	}
	return s
}

// logStatus says how the log path fares. Lost records degrade it: the figures are too low, and say by how much.
func (c *controller) logStatus() signalbox.LogStatus {
	loss := c.aggregator.Loss()
	s := signalbox.LogStatus{
		Level: signalbox.OK, Counted: loss.Counted, Lost: loss.Lost, Unsure: loss.Unsure, Bad: loss.Bad, Last: c.aggregator.LastRecord(),
	}
	s.Detail = strings.Join(c.receiver.Shortages(), "; ")
	switch {
	case !isSocket(c.options.LogSocket):
		s.Level, s.Detail = signalbox.Failing, "the socket "+c.options.LogSocket+" is gone: restart signalbox"
	case c.lost.grown(loss.Lost+loss.Bad, time.Now()):
		s.Level, s.Detail = signalbox.Degraded, fmt.Sprintf("within the last %s records were lost: the figures are too low", lossMatters)
	}
	return s
}

// lossMatters is for how long a loss degrades health.
const lossMatters = 10 * time.Minute

// recently remembers when a count grew last. One that falls back to what it was before has not grown after all: a gap in the log's
// numbers closes when the lines of a worker that a reload replaced arrive.
type recently struct {
	mu    sync.Mutex
	value uint64
	floor uint64 // the count before it grew
	at    time.Time
}

// grown takes the count, and reports whether it has grown within lossMatters, and is still greater than before.
func (r *recently) grown(value uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	matters := !r.at.IsZero() && now.Sub(r.at) < lossMatters
	if value > r.value {
		if !matters {
			r.floor = r.value
		}
		r.at, matters = now, true
	}
	if value <= r.floor {
		r.at, matters = time.Time{}, false
	}
	r.value = value
	return matters
}

// allProblems returns what is wrong with labels and tasks, with names that clash, and with what HAProxy has rejected.
func (c *controller) allProblems() []signalbox.Problem {
	all := c.table().AllProblems()
	if wanted := c.wanted.Load(); wanted != nil {
		all = append(all, wanted.Problems...)
	}
	all = append(all, c.applier.Problems()...)
	all = append(all, c.certificates.Problems()...)
	all = append(all, c.given.Problems()...)
	slices.SortFunc(all, signalbox.Problem.Compare)
	return slices.Compact(all)
}

// services returns what was counted for each service.
func (c *controller) services() []admin.ServiceStat {
	return admin.StatsOf(c.aggregator.Snapshot(time.Now()))
}

// windows returns what was counted for each service in a span up to now.
func (c *controller) windows(span time.Duration) []admin.ServiceStat {
	return admin.StatsIn(c.aggregator.Windows(time.Now(), span))
}

// state returns what is routed now, and the operator's choices.
func (c *controller) state() (admin.State, error) {
	s := admin.State{APIVersion: admin.APIVersion, Generation: c.applier.Status().Generation, Table: c.table()}
	var errs [2]error
	s.Labels, errs[0] = json.Marshal(c.settings.labelOptions())
	s.Options, errs[1] = json.Marshal(withoutHashes(c.current.Load()))
	return s, errors.Join(errs[:]...)
}

// withoutHashes returns options in which the lists of users have their names only: who asks wants to know which there are.
func withoutHashes(o *haproxy.Options) *haproxy.Options {
	public := *o
	public.UserLists = map[string][]haproxy.User{}
	for name := range o.UserLists {
		public.UserLists[name] = []haproxy.User{}
	}
	return &public
}

// errNothingYet says that the controller has no configuration.
var errNothingYet = errors.New("nothing is routed yet: no source has answered, and none left a state")

// render returns the files of the configuration that is wanted now.
func (c *controller) render() ([]admin.File, error) {
	wanted := c.wanted.Load()
	if wanted == nil {
		return nil, errNothingYet
	}
	return renderFiles(c.template, wanted)
}

// live returns the files that HAProxy was last given, as render names them: without the keys of certificates. One that does not stand
// there is left out.
func (c *controller) live() ([]admin.File, error) {
	names, err := control.Published(c.options.Dir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		_, key := haproxy.CertificateIn(name)
		return key || name == "haproxy.cfg"
	})
	var out []admin.File
	for _, name := range append([]string{"haproxy.cfg"}, names...) {
		text, err := os.ReadFile(filepath.Join(c.options.Dir, name))
		switch {
		case err == nil:
			out = append(out, admin.File{Name: name, Content: string(text)})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("reading what runs: %w", err)
		}
	}
	return out, nil
}

// renderFiles returns the files of a configuration, haproxy.cfg first.
func renderFiles(t *haproxy.Template, c *haproxy.Config) ([]admin.File, error) {
	files, err := haproxy.Render(t, c)
	if err != nil {
		return nil, err
	}
	out := []admin.File{{Name: "haproxy.cfg", Content: string(files.Config)}}
	for _, m := range files.Maps {
		out = append(out, admin.File{Name: m.Name, Content: string(m.Data)})
	}
	return out, nil
}

// isSocket reports whether a path is a socket.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}
