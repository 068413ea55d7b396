package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"signalbox"
)

// Bounds of a file.
const (
	maxFile      = 4 << 20 // bytes
	maxServices  = 10_000
	maxAddresses = 1000 // of one service
)

// entry is one service as the file writes it.
type entry struct {
	name      string // beginning with a slash, like an app's id
	line      int
	labels    map[string]string
	port      int // the service port that it announces, or 0
	check     signalbox.Check
	checkPort int // 0: that of the address
	addresses []address
	flaws     []flaw
	bad       bool // it cannot be used as it stands
}

// address is one place where a service answers.
type address struct {
	host     string // name or address
	port     int
	draining bool
	line     int
}

// flaw is what is wrong with one line of the file.
type flaw struct {
	line int
	text string
}

// errEmpty says that a file holds nothing: it is being written, or was cut.
var errEmpty = errors.New("it is empty; a file without services says `services: []`")

var (
	nameForm = regexp.MustCompile(`^(/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?){1,16}$`)
	hostForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	pathForm = regexp.MustCompile(`^/[A-Za-z0-9/._~!&()+,;=:@%?-]*$`)
)

// parse reads a file: a list of services, or an object with that list under "services". It fails where the file as a whole is no
// such thing; what is wrong with one entry is noted there.
func parse(b []byte) ([]entry, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, errEmpty
	}
	if json.Valid(b) {
		b = bytes.ReplaceAll(b, []byte("\t"), []byte(" ")) // YAML has no tabs between its words; a valid string of JSON holds none
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errEmpty // comments alone
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	list := followed(doc.Content[0])
	if list.Kind == yaml.MappingNode {
		if len(list.Content) != 2 || list.Content[0].Value != "services" {
			return nil, fmt.Errorf("line %d: want one key, services, with a list", list.Line)
		}
		list = followed(list.Content[1])
	}
	if list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: want a list of services", list.Line)
	}
	if len(list.Content) > maxServices {
		return nil, fmt.Errorf("it has %d services; at most %d are read", len(list.Content), maxServices)
	}
	entries := make([]entry, 0, len(list.Content))
	for _, n := range list.Content {
		e := entry{line: n.Line}
		e.read(followed(n))
		entries = append(entries, e)
	}
	return entries, nil
}

// followed returns what an alias stands for, or the node itself.
func followed(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (e *entry) flaw(n *yaml.Node, format string, args ...any) {
	e.flaws = append(e.flaws, flaw{n.Line, fmt.Sprintf(format, args...)})
}

// refuse notes a flaw for which the entry cannot be used.
func (e *entry) refuse(n *yaml.Node, format string, args ...any) {
	e.bad = true
	e.flaw(n, format, args...)
}

func (e *entry) read(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		e.refuse(n, "want a service: an object with name and addresses")
		return
	}
	e.fields(n, func(key string, key0, v *yaml.Node) {
		switch key {
		case "name":
			e.name = "/" + strings.TrimPrefix(e.scalar(v), "/")
			if !nameForm.MatchString(e.name) {
				e.refuse(v, "%.60q is no name: want words of a-z, 0-9, dots and dashes, parted by slashes", e.scalar(v))
			}
		case "labels":
			e.readLabels(v)
		case "port":
			e.port = e.number(v, 1, 65535)
		case "addresses":
			e.readAddresses(v)
		case "health":
			e.readHealth(v)
		default:
			e.flaw(key0, "the field %.60q is unknown; a service has name, labels, port, addresses and health", key)
		}
	})
	if e.name == "" {
		e.refuse(n, "the service has no name")
	}
	if !slices.ContainsFunc(n.Content, func(key *yaml.Node) bool { return key.Value == "addresses" }) {
		e.refuse(n, "the service has no addresses; one that shall answer 503 says `addresses: []`")
	}
}

// fields calls f for each field of an object, each once.
func (e *entry) fields(n *yaml.Node, f func(key string, at, value *yaml.Node)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], followed(n.Content[i+1])
		if seen[key.Value] {
			e.refuse(key, "%.60q stands there twice", key.Value)
			continue
		}
		seen[key.Value] = true
		f(key.Value, key, value)
	}
}

func (e *entry) scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		e.refuse(n, "want one value")
		return ""
	}
	return n.Value
}

func (e *entry) number(n *yaml.Node, least, most int) int {
	text := e.scalar(n)
	i, err := strconv.Atoi(text)
	if err != nil || i < least || i > most {
		e.refuse(n, "%.60q is no number from %d to %d", text, least, most)
		return 0
	}
	return i
}

func (e *entry) truth(n *yaml.Node) bool {
	switch e.scalar(n) {
	case "true":
		return true
	case "false":
		return false
	}
	e.refuse(n, "want true or false")
	return false
}

func (e *entry) duration(n *yaml.Node) time.Duration {
	text := e.scalar(n)
	d, err := time.ParseDuration(text)
	if err != nil || d < 100*time.Millisecond || d > 5*time.Minute {
		e.refuse(n, "%.60q is no time from 100ms to 5m", text)
		return 0
	}
	return d
}

func (e *entry) readLabels(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		e.refuse(n, "want labels: an object of names and values")
		return
	}
	e.labels = map[string]string{}
	e.fields(n, func(key string, _, v *yaml.Node) { e.labels[key] = e.scalar(v) })
}

func (e *entry) readHealth(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value == "off" {
		e.check.Kind = signalbox.CheckOff
		return
	}
	if n.Kind != yaml.MappingNode {
		e.refuse(n, "want off, or an object with path, tls, port, interval, timeout and fall")
		return
	}
	e.fields(n, func(key string, at, v *yaml.Node) {
		switch key {
		case "path":
			if e.check.Kind, e.check.Path = signalbox.CheckHTTP, e.scalar(v); !pathForm.MatchString(e.check.Path) || len(e.check.Path) > 1024 {
				e.refuse(v, "%.60q is no path", e.check.Path)
			}
		case "tls":
			e.check.TLS = e.truth(v)
		case "port":
			e.checkPort = e.number(v, 1, 65535)
		case "interval":
			e.check.Interval = e.duration(v)
		case "timeout":
			e.check.Timeout = e.duration(v)
		case "fall":
			e.check.Fall = e.number(v, 1, 100)
		default:
			e.flaw(at, "the field %.60q is unknown; health has path, tls, port, interval, timeout and fall", key)
		}
	})
}

func (e *entry) readAddresses(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		e.refuse(n, "want a list of addresses, host:port")
		return
	}
	if len(n.Content) > maxAddresses {
		e.refuse(n, "want at most %d addresses", maxAddresses)
		return
	}
	for _, item := range n.Content {
		item = followed(item)
		a := address{line: item.Line}
		text := item
		if item.Kind == yaml.MappingNode {
			text = &yaml.Node{Kind: yaml.ScalarNode, Line: item.Line}
			e.fields(item, func(key string, at, v *yaml.Node) {
				switch key {
				case "address":
					text = v
				case "draining":
					a.draining = e.truth(v)
				default:
					e.flaw(at, "the field %.60q is unknown; an address has address and draining", key)
				}
			})
		}
		var ok bool
		if a.host, a.port, ok = hostPort(e.scalar(text)); !ok {
			e.refuse(text, "%.60q is no address of the form host:port", text.Value)
			continue
		}
		e.addresses = append(e.addresses, a)
	}
}

// hostPort parts an address. A host is a name or an IP address, in brackets if it is IPv6.
func hostPort(text string) (host string, port int, ok bool) {
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, false
	}
	port, err = strconv.Atoi(number)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, false
	}
	if _, err := netip.ParseAddr(host); err != nil && (len(host) > 253 || !hostForm.MatchString(host) || strings.Trim(host, "0123456789.") == "") {
		return "", 0, false
	}
	return host, port, true
}
