package signalbox

import "testing"

// BenchmarkHeldFollow is what one change costs at 10,000 services while everything is held.
func BenchmarkHeldFollow(b *testing.B) {
	var services []*Service
	for i := range 10000 {
		s := asked("/app-"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), "x.local", 1, 2, 3)
		services = append(services, s)
	}
	before := NewTable(services, nil)
	other := *before.Services[5000]
	other.Version = "2"
	before = moved(before)
	after := &Table{Services: append([]*Service(nil), before.Services...)}
	after.Services[5000] = &other
	held := NewHeld(NewTable(services, nil), everything).Follow(before)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		next := before
		if i%2 == 0 {
			next = after
		}
		held = held.Follow(next)
	}
}

// moved returns a table in which every service has been deployed since, with the same definition.
func moved(t *Table) *Table {
	out := &Table{}
	for _, s := range t.Services {
		now := *s
		now.Version = "1"
		out.Services = append(out.Services, &now)
	}
	return out
}
