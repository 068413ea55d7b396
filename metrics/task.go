package metrics

import "time"

// task returns the account of the task that served a record, and counts how near it was.
func (a *Aggregator) task(s *service, r *Record, now time.Time) *part {
	at := s.last
	if at == nil || at.name != string(r.ServerAddr) {
		at = s.addrs[string(r.ServerAddr)]
		if at == nil {
			if len(s.addrs) >= 4*a.cfg.MaxTasks {
				a.overflow["address"]++
				return s.taskOf(a, Other)
			}
			at = &addr{name: string(r.ServerAddr)}
			s.addrs[at.name] = at
		}
		s.last = at
	}
	us := r.RequestMicros
	if us == 0 {
		us = r.Accepted * 1000
	}
	if at.task == nil || at.generation != a.generation || us < at.from || us >= at.until {
		at.from, at.until, at.generation, at.locality, at.state = 0, 1<<63-1, a.generation, Anywhere, ""
		id := at.name
		if a.cfg.Directory != nil {
			if t, ok := a.cfg.Directory.Task(s.name, at.name, r.Dispatched()); ok {
				id, at.locality, at.state = t.ID, t.Locality, t.State
				at.from = t.From.UnixMicro()
				if !t.Until.IsZero() {
					at.until = t.Until.UnixMicro()
				}
			}
		}
		at.task = s.taskOf(a, id)
	}
	switch at.locality {
	case Local:
		s.local++
	case Remote:
		s.remote++
	}
	at.task.seen = now
	return at.task
}

func (s *service) taskOf(a *Aggregator, id string) *part {
	return a.partNamed(s.tasks, id, "task", a.cfg.MaxTasks)
}
