package haproxy

import (
	"cmp"
	"slices"
	"strconv"

	"signalbox"
)

// Settings are what backends of one shape differ in, by the backend's name: they change while HAProxy runs. A backend that serves
// nobody has none.
type Settings struct {
	Names    []MapEntry // sorted by Key; to the service id
	Checks   []MapEntry // sorted by Key; to the path that its check asks for, where that is not "/"
	Timeouts []MapEntry // sorted by Key; to the milliseconds that an answer may take, and a tunnel be silent, where they are its own
	HTTPS    []MapEntry // sorted by Key; to "redirect", "hsts" or "redirect,hsts"
}

// The maps of settings.
const (
	NamesMap    = "names.map"
	ChecksMap   = "checks.map"
	TimeoutsMap = "timeouts.map"
	HTTPSMap    = "https.map"
)

// maps returns the maps of settings, that of checks first: a server that comes is probed at once.
func (s *Settings) maps() []Map {
	return []Map{
		{Name: ChecksMap, Entries: &s.Checks},
		{Name: NamesMap, Entries: &s.Names},
		{Name: TimeoutsMap, Entries: &s.Timeouts},
		{Name: HTTPSMap, Entries: &s.HTTPS},
	}
}

// Without returns the settings less those of some backends, by name.
func (s Settings) Without(gone map[string]bool) Settings {
	for _, m := range s.maps() {
		*m.Entries = slices.DeleteFunc(slices.Clone(*m.Entries), func(e MapEntry) bool { return gone[e.Key] })
	}
	return s
}

// As returns the settings with what some backends ask for, whatever was said of these.
func (s Settings) As(backends []*Backend) Settings {
	var change [4]map[string]string
	for i := range change {
		change[i] = make(map[string]string, len(backends))
	}
	for _, b := range backends {
		for i, value := range b.settings() {
			change[i][b.Name] = value
		}
	}
	for i, m := range s.maps() {
		*m.Entries = edited(*m.Entries, change[i])
	}
	return s
}

// settings returns what the maps say of a backend, in their order; "" is nothing. One whose section says it itself has no more than a
// name and a path.
func (b *Backend) settings() (values [4]string) {
	if b.Retired {
		return values
	}
	values[1] = string(b.Service)
	if b.Check.Kind == signalbox.CheckHTTP && b.Check.Path != "/" {
		values[0] = b.Check.Path
	}
	if b.Policy == nil || b.special() || b.Mode == signalbox.TCP {
		return values
	}
	if t := b.Policy.Timeout; t > 0 {
		values[2] = strconv.FormatInt(t.Milliseconds(), 10)
	}
	switch p := b.Policy; {
	case p.HTTPSRedirect && p.HSTS:
		values[3] = "redirect,hsts"
	case p.HTTPSRedirect:
		values[3] = "redirect"
	case p.HSTS:
		values[3] = "hsts"
	}
	return values
}

// collectSettings brings the maps of settings up to date, or takes them over.
func (b *builder) collectSettings() {
	b.next.Settings = b.prev.Settings
	var change [4]map[string]string
	if len(b.prev.made.services) == 0 {
		b.next.Settings = Settings{}
		for _, be := range b.next.Backends {
			noteSettings(&change, be.Name, [4]string{}, be.settings())
		}
	} else if !sameSlice(b.prev.Backends, b.next.Backends) {
		// Both are sorted by name.
		from, to := b.prev.Backends, b.next.Backends
		for len(from) > 0 || len(to) > 0 {
			switch {
			case len(from) > 0 && len(to) > 0 && from[0] == to[0]:
				from, to = from[1:], to[1:]
			case len(to) == 0 || len(from) > 0 && from[0].Name < to[0].Name:
				noteSettings(&change, from[0].Name, from[0].settings(), [4]string{})
				from = from[1:]
			case len(from) == 0 || to[0].Name < from[0].Name:
				noteSettings(&change, to[0].Name, [4]string{}, to[0].settings())
				to = to[1:]
			default:
				noteSettings(&change, to[0].Name, from[0].settings(), to[0].settings())
				from, to = from[1:], to[1:]
			}
		}
	}
	was := b.prev.Settings.maps()
	for i, m := range b.next.Settings.maps() {
		if len(change[i]) > 0 {
			*m.Entries = edited(*m.Entries, change[i])
		}
		if slices.Equal(*m.Entries, *was[i].Entries) {
			*m.Entries = *was[i].Entries
		}
	}
}

// noteSettings notes what changes of a backend's settings.
func noteSettings(change *[4]map[string]string, name string, from, to [4]string) {
	for i := range change {
		if from[i] == to[i] {
			continue
		}
		if change[i] == nil {
			change[i] = make(map[string]string)
		}
		change[i][name] = to[i]
	}
}

// edited returns entries, which are sorted by key, with other values for some keys; "" takes one out.
func edited(entries []MapEntry, change map[string]string) []MapEntry {
	out := make([]MapEntry, 0, len(entries)+len(change))
	fresh := make([]MapEntry, 0, len(change))
	for key, value := range change {
		if value != "" {
			fresh = append(fresh, MapEntry{key, value})
		}
	}
	slices.SortFunc(fresh, func(x, y MapEntry) int { return cmp.Compare(x.Key, y.Key) })
	for _, e := range entries {
		if _, ok := change[e.Key]; ok {
			continue
		}
		for len(fresh) > 0 && fresh[0].Key < e.Key {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
		out = append(out, e)
	}
	return append(out, fresh...)
}
