package labels

import "strings"

// native reads our own labels: signalbox.KEY, signalbox.N.KEY and signalbox.PORTNAME.KEY.
var native = dialect{name: "signalbox", read: readNative}

const nativePrefix = "signalbox."

func readNative(name, value string) ([]claim, *flaw, bool) {
	rest, ok := strings.CutPrefix(name, nativePrefix)
	if !ok {
		return misspelledPrefix(name, value)
	}
	c := claim{rank: rankApp, key: rest, value: value}
	if i := strings.LastIndexByte(rest, '.'); i >= 0 {
		c = claim{rank: rankPort, port: rest[:i], key: rest[i+1:], value: value}
		if c.port == "" {
			return stray(c), &flaw{code: "SB102", text: "names no port between its dots"}, true
		}
	}
	if row(c.key) != nil {
		return []claim{c}, nil, true
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	keys := make([]string, len(table))
	for i := range table {
		keys[i] = table[i].Key
	}
	if best := nearest(strings.ToLower(c.key), keys); best != "" {
		f.text += "; did you mean " + strings.TrimSuffix(name, c.key) + best + "?"
		c.key = best
	} else if row(c.port) != nil {
		f.text += "; did you mean " + nativePrefix + c.key + "." + c.port + "?" // signalbox.host.0
		c.port, c.key = c.key, c.port
	}
	return stray(c), f, true
}

// stray returns what is left of a claim whose label has a wrong name: nothing, unless it restricts access.
func stray(c claim) []claim {
	if l := row(c.key); l == nil || !l.guards {
		return nil
	}
	c.twin, c.stray = "", true
	c.reader = func(*values, string, *Options) ([]flaw, bool) { return nil, true }
	return []claim{c}
}

// misspelledPrefix recognises labels that were meant for us: Signalbox.host, singalbox.host, signalbox_host.
func misspelledPrefix(name, value string) ([]claim, *flaw, bool) {
	i := strings.IndexAny(name, "._-/")
	if i < 0 || distance(strings.ToLower(name[:i]), "signalbox", 2) > 2 {
		return nil, nil, false
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	rest := strings.ToLower(name[i+1:])
	if row(rest[strings.LastIndexByte(rest, '.')+1:]) == nil {
		return nil, f, true
	}
	f.text += "; did you mean " + nativePrefix + rest + "?"
	meant, _, _ := readNative(nativePrefix+rest, value)
	return stray(meant[0]), f, true
}
