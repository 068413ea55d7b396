package consul

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"signalbox"
	"signalbox/discovery/labels"
)

// instance is one registration of a service.
type instance struct {
	task     string
	node     string
	nodeAddr string
	host     string // name or address where it answers
	port     int
	labels   map[string]string // of the dialects that are on, from tags and meta
	prefixes []string          // fabio's tags, without urlprefix-
	state    signalbox.State
	why      string
	created  uint64 // indices in Consul's history
	changed  uint64
}

// labelled reports whether the instance asks for anything. One that does not is none of ours, whatever its siblings ask for: a replica
// beside a primary, or another port of the same name.
func (i *instance) labelled() bool { return len(i.labels)+len(i.prefixes) > 0 }

// instances returns what Consul says of one service, sorted by task. Proxies and gateways of its mesh are left out: they carry the labels of
// the service that they stand before, and speak to each other only.
func instances(entries []*api.ServiceEntry, o labels.Options) []instance {
	var out []instance
	for _, e := range entries {
		if e == nil || e.Service == nil || e.Node == nil || e.Service.Kind != api.ServiceKindTypical {
			continue
		}
		i := instance{
			task: word(e.Node.Node) + ":" + word(e.Service.ID), node: e.Node.Node, nodeAddr: e.Node.Address,
			host: e.Service.Address, port: e.Service.Port, created: e.Service.CreateIndex, changed: e.Service.ModifyIndex,
		}
		if i.host == "" {
			i.host = e.Node.Address
		}
		i.labels, i.prefixes = labelsOf(e.Service.Tags, e.Service.Meta, o)
		i.state, i.why = stateOf(e.Checks)
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b instance) int { return strings.Compare(a.task, b.task) })
	return out
}

// word keeps what can stand in a line of text without being taken for anything else.
func word(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '.' || r == '_' || r == '/' || r == ':' || isAlnum(byte(r))) {
			return r
		}
		return '_'
	}, s)
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// marker is a tag that asks for nothing: it says that labels stand in the service's meta, which the list of services does not show.
const marker = "signalbox"

const fabioTag = "urlprefix-"

// hints reports whether tags say that a service may have labels.
func hints(tags []string, o labels.Options) bool {
	return slices.ContainsFunc(tags, func(tag string) bool {
		name, _, _ := strings.Cut(tag, "=")
		return tag == marker || strings.HasPrefix(tag, fabioTag) && o.Reads(labels.Fabio) || o.Recognises(name)
	})
}

// labelsOf returns the labels among tags and meta. A tag is NAME=VALUE; a key of meta, which can have no dots, has underscores for them:
// signalbox_host. Where both have a label, meta holds. Tags of one name are one list.
func labelsOf(tags []string, meta map[string]string, o labels.Options) (found map[string]string, prefixes []string) {
	found = map[string]string{}
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		if text, ok := strings.CutPrefix(tag, fabioTag); ok {
			if o.Reads(labels.Fabio) {
				prefixes = append(prefixes, text)
			}
			continue
		}
		name, value, _ := strings.Cut(tag, "=")
		if !o.Recognises(name) {
			continue
		}
		if before, twice := found[name]; twice {
			value = before + " " + value
		}
		found[name] = value
	}
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		name := key
		if rest, ok := strings.CutPrefix(key, marker+"_"); ok {
			name = marker + "." + strings.ReplaceAll(rest, "_", ".")
		}
		if o.Recognises(name) {
			found[name] = meta[key]
		}
	}
	return found, prefixes
}

// stateOf judges an instance by its checks and its node's. A node that its fellows do not hear is not dead for certain: HAProxy's own checks
// decide, so that a partition of Consul takes nothing out.
func stateOf(checks api.HealthChecks) (signalbox.State, string) {
	unheard, failing := false, ""
	for _, c := range checks {
		if c == nil || c.Status != api.HealthCritical && c.Status != api.HealthMaint {
			continue
		}
		switch {
		case c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix):
			return signalbox.Draining, "it is in maintenance"
		case c.CheckID == "serfHealth":
			unheard = true
		case failing == "" || c.CheckID < failing:
			failing = c.CheckID
		}
	}
	switch {
	case unheard:
		return signalbox.Suspect, "Consul does not hear its node"
	case failing != "":
		return signalbox.Down, "its check " + word(failing) + " is critical"
	}
	return signalbox.Up, ""
}
