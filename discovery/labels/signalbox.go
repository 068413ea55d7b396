package labels

import (
	"slices"
	"strings"
)

// native reads our own labels: signalbox.KEY, signalbox.N.KEY and signalbox.PORTNAME.KEY.
var native = dialect{name: "signalbox", read: readNative}

const nativePrefix = "signalbox."

// protective are keys that other versions of the vocabulary have and that restrict who may reach a service. Where they are not
// enforced, the service must not be reachable at all.
var protective = []string{"auth", "allow"}

func readNative(name string) (claim, *flaw, bool) {
	rest, ok := strings.CutPrefix(name, nativePrefix)
	if !ok {
		return misspelledPrefix(name)
	}
	c := claim{rank: rankApp, key: rest}
	if i := strings.LastIndexByte(rest, '.'); i >= 0 {
		c = claim{rank: rankPort, port: rest[:i], key: rest[i+1:]}
		if c.port == "" {
			return claim{}, &flaw{code: "SB102", text: "names no port between its dots"}, true
		}
	}
	if slices.Contains(protective, c.key) {
		c.withhold = true
		return c, nil, true
	}
	if row(c.key) != nil {
		return c, nil, true
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	keys := make([]string, len(table))
	for i := range table {
		keys[i] = table[i].Key
	}
	if best := nearest(strings.ToLower(c.key), keys); best != "" {
		f.text += "; did you mean " + strings.TrimSuffix(name, c.key) + best + "?"
	} else if row(c.port) != nil {
		f.text += "; did you mean " + nativePrefix + c.key + "." + c.port + "?" // signalbox.host.0
	}
	return c, f, true
}

// misspelledPrefix recognises labels that were meant for us: Signalbox.host, singalbox.host, signalbox_host.
func misspelledPrefix(name string) (claim, *flaw, bool) {
	i := strings.IndexAny(name, "._-/")
	if i < 0 || distance(strings.ToLower(name[:i]), "signalbox", 2) > 2 {
		return claim{}, nil, false
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	rest := strings.ToLower(name[i+1:])
	if key := rest[strings.LastIndexByte(rest, '.')+1:]; row(key) != nil {
		f.text += "; did you mean " + nativePrefix + rest + "?"
	}
	return claim{}, f, true
}
