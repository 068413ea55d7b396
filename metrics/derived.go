package metrics

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// MaxDerived is how many derived metrics there may be: each is asked for every request.
const MaxDerived = 64

// Derived is a count of the requests that meet every condition of a text such as "app=/shop/* path=/checkout/* latency>500ms".
type Derived struct {
	Name           string // lower case letters, digits and underscores
	app, path      *template
	methods        []string
	codes          []string // "503", "5xx"
	longer, within time.Duration
}

var derivedName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// ParseDerived reads the conditions of a derived metric. Its errors name the condition, and what may stand there.
func ParseDerived(name, text string) (Derived, error) {
	d := Derived{Name: name}
	if !derivedName.MatchString(name) {
		return d, fmt.Errorf("name %q must be of letters, digits and underscores, and begin with a letter", name)
	}
	for word := range strings.FieldsSeq(text) {
		if err := d.add(word); err != nil {
			return d, err
		}
	}
	if strings.TrimSpace(text) == "" {
		return d, fmt.Errorf("it has no condition; one is app=/shop/*, for instance")
	}
	return d, nil
}

// add reads one more condition.
func (d *Derived) add(word string) error {
	at := strings.IndexAny(word, "=<>")
	if at < 1 || at == len(word)-1 {
		return fmt.Errorf("condition %q must be app=, path=, method=, status=, latency> or latency<, and a value", word)
	}
	value := word[at+1:]
	switch word[:at+1] {
	case "app=", "path=":
		if value[0] != '/' {
			return fmt.Errorf("condition %q must name a path that begins with a slash, such as /shop/*", word)
		}
		t := compileTemplates([]string{value})[0]
		if word[0] == 'a' {
			d.app = &t
		} else {
			d.path = &t
		}
	case "method=":
		d.methods = strings.Split(value, ",")
	case "status=":
		d.codes = strings.Split(value, ",")
		for _, code := range d.codes {
			if len(code) != 3 || code[0] < '1' || code[0] > '5' || code[1:] != "xx" && (!digit(code[1]) || !digit(code[2])) {
				return fmt.Errorf("condition %q must name codes such as 503 or 5xx, with commas between them", word)
			}
		}
	case "latency>", "latency<":
		limit, err := time.ParseDuration(value)
		if err != nil || limit <= 0 {
			return fmt.Errorf("condition %q must name a duration such as 500ms", word)
		}
		if word[at] == '>' {
			d.longer = limit
		} else {
			d.within = limit
		}
	default:
		return fmt.Errorf("condition %q must be app=, path=, method=, status=, latency> or latency<, and a value", word)
	}
	return nil
}

// ofApp reports whether requests of a service ("/shop/cart:0") can meet it.
func (d *Derived) ofApp(service string) bool {
	app := service
	if colon := strings.LastIndexByte(service, ':'); colon > 0 {
		app = service[:colon]
	}
	return d.app == nil || d.app.matches([]byte(app))
}

// matches reports whether a request or connection meets every condition but that of the app. A connection of a TCP service has a latency only.
func (d *Derived) matches(r *Record) bool {
	if r.Kind != KindHTTP && (d.path != nil || len(d.methods) > 0 || len(d.codes) > 0) || d.path != nil && !d.path.matches(r.Path) {
		return false
	}
	if len(d.methods) > 0 && !slices.ContainsFunc(d.methods, func(m string) bool { return m == string(r.Method) }) {
		return false
	}
	if len(d.codes) > 0 && !slices.ContainsFunc(d.codes, func(c string) bool { return isCode(r.Status, c) }) {
		return false
	}
	took := time.Duration(r.Duration()) * time.Microsecond
	return (d.longer == 0 || took > d.longer) && (d.within == 0 || took < d.within)
}

func isCode(status int16, code string) bool {
	if status < 100 || status > 999 || int(code[0]-'0') != int(status)/100 {
		return false
	}
	return code[1] == 'x' || int(code[1]-'0')*10+int(code[2]-'0') == int(status)%100
}

// derive counts a request for the derived metrics of its service.
func (a *Aggregator) derive(s *service, r *Record) {
	for i, of := range s.derivedOf {
		if r.Kind == KindHTTP && a.cfg.Derived[of].matches(r) {
			s.derived[i]++
		}
	}
}

// DerivedCount counts the requests of a service that meet a derived metric's conditions.
type DerivedCount struct {
	Metric string `json:"metric"`
	Count  uint64 `json:"count"`
}
