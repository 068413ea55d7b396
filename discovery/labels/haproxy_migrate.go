package labels

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// Migration is what the labels of an app become where native ones take the place of marathon-lb's.
type Migration struct {
	Labels map[string]string // all of the app's, those of others too; Marathon replaces labels as a whole
	// Kept are marathon-lb's labels that stay because nothing native says what they do, or nobody knows, sorted.
	Kept []string
	// ForTools are those that stay because tools for blue and green read and write them, sorted.
	ForTools []string
	// Lost is what no native label says, sorted. It has no effect here as it stands either.
	Lost []signalbox.Problem
}

// Migrate returns the labels of an app with native ones in the place of marathon-lb's. What they say here stays the same.
func Migrate(app string, meta map[string]string, ports []Port, o Options) Migration {
	o.Dialects, o.ServicePorts, o.Strict, o.Groups = nil, Labelled, false, nil
	m := Migration{Labels: maps.Clone(meta)}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	result := Parse(app, meta, ports, o)
	member := slices.ContainsFunc(result.Ports, func(p PortResult) bool { return p.Deployment != nil })
	stays := map[string]bool{}
	everywhere := !slices.ContainsFunc(result.Ports, func(p PortResult) bool { return p.asked["group"].rank != rankForeignApp || p.stays() })
	for i := range result.Ports {
		p := &result.Ports[i]
		m.port(p, len(ports), everywhere, stays)
		m.lose(p.Problems)
	}
	m.lose(result.Problems)
	for name := range meta {
		plain, _ := clean(name)
		rest, ok := strings.CutPrefix(plain, marathonLBPrefix)
		switch {
		case !ok:
			continue
		case slices.Contains(deploymentLabels, rest), member && rest == portForTools:
			m.ForTools = append(m.ForTools, name)
			continue
		case stays[name]:
			m.Kept = append(m.Kept, name)
			continue
		case rest != "GROUP" && !readable(plain):
			m.Kept = append(m.Kept, name) // it is not known what it is for
			continue
		}
		delete(m.Labels, name)
	}
	slices.Sort(m.Kept)
	slices.Sort(m.ForTools)
	slices.SortFunc(m.Lost, signalbox.Problem.Compare)
	m.Lost = slices.CompactFunc(m.Lost, func(a, b signalbox.Problem) bool { return a.Compare(b) == 0 })
	return m
}

func readable(name string) bool {
	_, bad, mine := readMarathonLB(name, "")
	return mine && bad == nil
}

// port says natively what marathon-lb's labels say of one port. One that stays keeps all of them: what restricts access may take several. everywhere says that all ports have the
// groups of the app.
func (m *Migration) port(p *PortResult, ports int, everywhere bool, stays map[string]bool) {
	if !p.foreign {
		return
	}
	if p.stays() {
		for _, name := range p.lb {
			stays[name] = true
		}
		for _, r := range p.refused {
			stays[r.claim.label] = true
		}
		if c := p.asked["group"]; c.foreign {
			stays[c.label] = true
		}
		return
	}
	prefix := nativePrefix
	if ports > 1 {
		prefix += strconv.Itoa(p.Index) + "."
	}
	set := func(name, value string) {
		if _, there := m.Labels[name]; !there {
			m.Labels[name] = value
		}
	}
	for key, c := range p.asked {
		switch {
		case !c.foreign, c.label == marathonLBPrefix+portForTools && p.Deployment != nil:
		case c.rank == rankForeignApp && everywhere:
			set(nativePrefix+key, c.value)
		default:
			set(prefix+key, c.value)
		}
	}
	switch {
	case p.asks("port") || p.Listen == 0:
	case p.Listen == p.port.Service:
		set(prefix+"port", "on")
	default:
		set(prefix+"port", strconv.Itoa(p.Listen))
	}
	if p.Mode == signalbox.HTTP && !p.asks("mode") && !p.asks("host") && !p.asks("path") {
		set(prefix+"mode", "http")
	}
}

// portForTools is the label by which tools for blue and green find the service of a group.
const portForTools = "0_PORT"

// stays reports whether a port has labels of marathon-lb that cannot be said, or whose lines go into the configuration as they stand.
func (p *PortResult) stays() bool {
	return len(p.Policy.Raw) > 0 || slices.ContainsFunc(p.refused, func(r refusal) bool { return r.claim.foreign && r.whole })
}

// lose notes the problems with marathon-lb's labels that cost something.
func (m *Migration) lose(problems []signalbox.Problem) {
	for _, p := range problems {
		if strings.HasPrefix(p.Label, marathonLBPrefix) && p.Code != "SB108" && p.Code != "SB101" {
			m.Lost = append(m.Lost, p)
		}
	}
}

// Changes returns what is taken away from labels and what is added, sorted by name, for people: without secrets.
func (m *Migration) Changes(meta map[string]string) []LabelChange {
	var all []LabelChange
	for name, value := range meta {
		if now, there := m.Labels[name]; !there || now != value {
			all = append(all, LabelChange{Name: name, Value: publicValue(name, value), Gone: true})
		}
	}
	for name, value := range m.Labels {
		if before, there := meta[name]; !there || before != value {
			all = append(all, LabelChange{Name: name, Value: publicValue(name, value)})
		}
	}
	slices.SortFunc(all, func(a, b LabelChange) int {
		return cmp.Or(cmp.Compare(order(a.Gone), order(b.Gone)), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// LabelChange is one label that comes or goes.
type LabelChange struct {
	Name, Value string
	Gone        bool
}

func order(first bool) int {
	if first {
		return 0
	}
	return 1
}

// publicValue returns the value of a label for people.
func publicValue(name, value string) string {
	key, foreign := name[strings.LastIndexByte(name, '.')+1:], strings.HasPrefix(name, marathonLBPrefix)
	switch {
	case strings.HasSuffix(name, "_AUTH"):
		key = "auth"
	case foreign:
		key, value = "", strings.ReplaceAll(publicText(value), "\n", `\n`)
	}
	c := claim{label: name, value: value, key: key, twin: name}
	return c.shown()
}
