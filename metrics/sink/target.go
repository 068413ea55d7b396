package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// protocol is what one kind of sink does in its own way.
type protocol interface {
	// encode turns an interval into frames, and returns how many points fit into none. It is pure.
	encode(iv *Interval) (frames []frame, tooLong int)
	// send takes frames to the server, and calls settled once for each one that needs no further attempt, in order: with "" if it
	// arrived, as far as the protocol tells, else with why it was dropped. Whatever is not settled is sent again. Every wait has a deadline.
	send(ctx context.Context, frames []frame, settled func(dropped string)) error
}

// kind is one kind of sink: how its address and options become a protocol.
type kind struct {
	port string // where none is given; "": it is a must
	make func(address address, o *options) protocol
}

// kinds are the sinks that there are, by the scheme of their URL.
var kinds = map[string]kind{
	"statsd":   {"8125", newStatsD},
	"graphite": {"2003", newGraphite},
	"riemann":  {"5555", newRiemann},
}

// address is where a server listens, and how long it may take: to accept a connection, to take some bytes, to answer.
type address struct {
	network, text string // the network is "" for the protocol's own, or "unix"
	patience      time.Duration
}

// mostPatience is how long a server may take for one step; less where intervals are short.
const mostPatience = 5 * time.Second

// Context is what sinks are told of where they run.
type Context struct {
	Node     string        // the name of the machine, or of the cluster
	Interval time.Duration // between two pushes
}

// Target is one sink that a setting names.
type Target struct {
	Name     string // statsd://host:8125, or what the option name says; unique
	protocol protocol
	limit    int           // bytes of its queue
	phase    time.Duration // how long after the end of an interval it is sent
	backoff  time.Duration // most time between two attempts
}

// mostQueue is the default bound of a queue, in MiB.
const mostQueue = 16

// Parse reads a sink's setting, as in statsd://host:8125?tags=datadog. Errors name the option that is wrong, and no value of an option
// that is not known: it may be a secret.
func Parse(text string, in Context) (*Target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("a value is no URL such as statsd://host:8125")
	}
	k, ok := kinds[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("%q is no kind of sink; there are %s", u.Scheme, strings.Join(Kinds(), ", "))
	}
	if u.User != nil {
		return nil, fmt.Errorf("%s: the URL holds credentials, which every list of processes would show, and %s takes none", u.Scheme, u.Scheme)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("%s: what follows ? is not of the form option=value&option=value", u.Scheme)
	}
	at := address{patience: min(mostPatience, in.Interval/2)}
	switch {
	case u.Host == "" && strings.HasPrefix(u.Path, "/") && u.Path != "/" && u.Scheme == "statsd":
		at.network, at.text = "unix", u.Path
	case u.Hostname() == "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("%s: the URL must be of the form %s://host:%s", u.Scheme, u.Scheme, k.port)
	default:
		port := cmp.Or(u.Port(), k.port)
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%s: %q is no port", u.Scheme, port)
		}
		at.text = joinPort(u.Hostname(), port)
	}
	o := &options{in: in, values: values}
	t := &Target{Name: o.text("name", u.Scheme+"://"+at.text), limit: o.number("queue", mostQueue, 1, 1024) << 20, backoff: min(mostBackoff, 3*in.Interval)}
	t.phase = phase(in, t.Name)
	t.protocol = k.make(at, o)
	if errs := o.check(); len(errs) > 0 {
		for i, err := range errs {
			errs[i] = fmt.Errorf("%s: %w", t.Name, err)
		}
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// phase returns how long after the end of an interval a node sends. Nodes differ, so that they do not all come at once.
func phase(in Context, target string) time.Duration {
	most := uint64(in.Interval / 4)
	if most == 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(in.Node + "\x00" + target))
	return time.Duration(h.Sum64() % most)
}

// ParseAll is Parse for each of a list. No two sinks may have one name.
func ParseAll(texts []string, in Context) ([]*Target, error) {
	var out []*Target
	var errs []error
	for _, text := range texts {
		t, err := Parse(text, in)
		if err == nil && slices.ContainsFunc(out, func(o *Target) bool { return o.Name == t.Name }) {
			err = fmt.Errorf("two sinks are called %s: give one of them the option name", t.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, t)
	}
	return out, errors.Join(errs...)
}

// Kinds returns the schemes of the sinks that there are, sorted.
func Kinds() []string {
	var out []string
	for name := range kinds {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func joinPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// options reads the options of one sink, and remembers what is wrong with them.
type options struct {
	in     Context
	values url.Values
	known  []string
	errs   []error
}

func (o *options) wrong(key, format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf("option %s: "+format, append([]any{key}, args...)...))
}

// list returns all values of an option that may be given several times.
func (o *options) list(key string) []string {
	o.known = append(o.known, key)
	return o.values[key]
}

// one returns the value of an option that may be given once, "" without it.
func (o *options) one(key string) string {
	all := o.list(key)
	if len(all) > 1 {
		o.wrong(key, "is given %d times", len(all))
	}
	return o.values.Get(key)
}

// text returns an option, or what holds without it.
func (o *options) text(key, or string) string {
	if !o.values.Has(key) {
		o.known = append(o.known, key)
		return or
	}
	text := o.one(key)
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		o.wrong(key, "may have no blanks and no control characters")
	}
	return text
}

// choice returns an option that has few values, the first of which holds without it.
func (o *options) choice(key string, of ...string) string {
	text := cmp.Or(o.one(key), of[0])
	if !slices.Contains(of, text) {
		o.wrong(key, "want one of: %s", strings.Join(of, ", "))
	}
	return text
}

func (o *options) number(key string, or, least, most int) int {
	text := o.one(key)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		o.wrong(key, "want a number from %d to %d", least, most)
	}
	return n
}

func (o *options) share(key string, or float64) float64 {
	text := o.one(key)
	if text == "" {
		return or
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(x > 0 && x <= 1) {
		o.wrong(key, "want a share above 0 and up to 1, as 0.05 is")
	}
	return x
}

// detail reads the options with and times.
func (o *options) detail(times ...string) (detail, string) {
	var d detail
	for _, what := range o.list("with") {
		switch what {
		case "routes":
			d.routes = true
		case "tasks":
			d.tasks = true
		case "callers":
			d.callers = true
		default:
			o.wrong("with", "want routes, tasks or callers; give the option several times for several")
		}
	}
	how := o.choice("times", times...)
	d.times = how != "none"
	return d, how
}

// check returns all that is wrong.
func (o *options) check() []error {
	var strays []string
	for key := range o.values {
		if !slices.Contains(o.known, key) {
			strays = append(strays, key)
		}
	}
	slices.Sort(strays)
	slices.Sort(o.known)
	for _, key := range strays {
		o.errs = append(o.errs, fmt.Errorf("%q is no option of it; there are %s", key, strings.Join(o.known, ", ")))
	}
	return o.errs
}
