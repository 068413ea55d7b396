package haproxy

import "slices"

// Ending returns running with those servers drained to whose tasks want sends no requests any more, in every backend that keeps a usable
// one; running itself if there are none. Its commands open nothing, so a worker that is about to be replaced may be told: it has
// requests to give away as long as it lives, and takes no orders once it has begun to leave.
func Ending(running, want *Config) *Config {
	if running == nil || want == nil {
		return running
	}
	out := running
	for i, r := range running.Backends {
		w := want.Backend(r.Name)
		if w == r || w == nil || r.Retired || w.Retired || !w.succeeds(r) {
			continue
		}
		slots := slices.Clone(r.Slots)
		for j := range slots {
			if s := &slots[j]; s.usable() && s.Task != "" && !w.served(*s) {
				s.Admin = Drain
			}
		}
		if slices.Equal(slots, r.Slots) || !slices.ContainsFunc(slots, Server.usable) {
			continue
		}
		if out == running {
			c := *running
			c.Backends = slices.Clone(running.Backends)
			out = &c
		}
		b := *r
		b.Slots = slots
		out.Backends[i] = &b
	}
	return out
}
