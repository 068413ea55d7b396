package marathon

import (
	"sync"

	"signalbox/discovery/labels"
)

// wordings are the definitions of apps as they were last read, so that people can be told what their labels mean. It may be used by
// several goroutines. The zero value is ready.
type wordings struct {
	mu    sync.Mutex
	byApp map[string]Definition
}

func (w *wordings) learn(d Definition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byApp == nil {
		w.byApp = map[string]Definition{}
	}
	w.byApp[d.ID] = d
}

func (w *wordings) forget(app string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byApp, app)
}

// retain forgets the apps that a read of everything is without; pods are left alone where it says nothing of them.
func (w *wordings) retain(all []reading, withPods bool) {
	present := present(all)
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, d := range w.byApp {
		if !present[id] && (d.App != nil || withPods) {
			delete(w.byApp, id)
		}
	}
}

// Readings returns what became of each label of an app or a pod, by port, as it was last read. False: no such app has been read since
// the program started.
func (s *Source) Readings(app string) ([]labels.Reading, bool) {
	s.wordings.mu.Lock()
	d, ok := s.wordings.byApp[app]
	s.wordings.mu.Unlock()
	if !ok {
		return nil, false
	}
	return d.Read(s.cfg.Convert.Labels), true
}

// wording returns the definition of an app, without what it does now.
func (a *App) wording() Definition {
	bare := *a
	bare.Tasks, bare.ReadinessResults, bare.Deployments = nil, nil, nil
	return Definition{ID: a.ID, App: &bare}
}

// wording is App.wording for a pod.
func (p *Pod) wording() Definition { return Definition{ID: p.ID, Pod: &Pod{ID: p.ID, Spec: p.Spec}} }
