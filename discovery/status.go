package discovery

import (
	"time"

	"signalbox"
)

// Status returns the state of each source, in order of precedence.
func (w *Watcher) Status() []signalbox.SourceStatus {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]signalbox.SourceStatus, 0, len(w.slots))
	for _, s := range w.slots {
		st := signalbox.SourceStatus{
			Name: s.source.Name(), Level: signalbox.OK, Connected: s.health.Connected, Endpoint: s.health.Endpoint,
			LastRead: s.health.LastRead, LastGood: s.goodAt, Generation: s.gen, LastEvent: s.health.LastEvent, Detail: "following " + s.health.Endpoint,
		}
		if s.health.Detail != "" {
			st.Detail = s.health.Detail
		}
		st.Apps, st.Endpoints = (&signalbox.Table{Services: s.good}).Counts()
		switch {
		case s.ended != nil:
			st.Level, st.Detail = signalbox.Failing, "gave up: "+s.ended.Error()
		case !s.known:
			st.Level, st.Detail = signalbox.Failing, "nothing read yet"
			if s.health.Err != "" {
				st.Detail += ": " + s.health.Err
			}
		case s.held != nil:
			st.Level, st.Detail, st.Quarantined = signalbox.Degraded, "a suspicious state is held back", s.why
		case s.health.Err != "":
			st.Level, st.Detail = signalbox.Degraded, s.health.Err
		case s.health.LastRead.IsZero():
			st.Level, st.Detail = signalbox.Degraded, "serving the stored state; nothing read yet"
		case now.Sub(s.health.LastRead) > w.cfg.StaleAfter:
			st.Level, st.Detail = signalbox.Degraded, "no successful read for "+now.Sub(s.health.LastRead).Round(time.Second).String()
		case s.unstored != nil:
			st.Level, st.Detail = signalbox.Degraded, "the last good state can't be stored: "+s.unstored.Error()
		case !s.health.Connected:
			st.Level, st.Detail = signalbox.Degraded, "no event stream; polling"
		}
		out = append(out, st)
	}
	return out
}
