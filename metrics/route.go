package metrics

import "strings"

// Beyond these, what stands further in a path tells no route.
const (
	routeSegments = 6
	routeLength   = 120
)

// template is a template of paths, as a label has it ("/users/{id}/orders"): "{…}" stands for one segment, "*" at the end for any rest.
type template struct {
	text     string
	segments []string
	rest     bool
}

func compileTemplates(texts []string) []template {
	out := make([]template, 0, len(texts))
	for _, text := range texts {
		t := template{text: text, segments: strings.Split(strings.Trim(text, "/"), "/")}
		if last := len(t.segments) - 1; t.segments[last] == "*" {
			t.rest, t.segments = true, t.segments[:last]
		}
		out = append(out, t)
	}
	return out
}

// matches reports whether a path is of the template. A slash at the end makes no difference.
func (t *template) matches(path []byte) bool {
	rest := trimSlash(path)
	for _, want := range t.segments {
		if len(rest) == 0 {
			return want == ""
		}
		var segment []byte
		segment, rest = cutSegment(rest)
		if variable := len(want) > 1 && want[0] == '{' && want[len(want)-1] == '}'; !variable && string(segment) != want || len(segment) == 0 {
			return false
		}
	}
	return t.rest || len(rest) == 0
}

func trimSlash(path []byte) []byte {
	if len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	if len(path) > 0 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

// cutSegment returns a path's first segment, and what is behind the slash that follows it.
func cutSegment(path []byte) (segment, rest []byte) {
	for i, c := range path {
		if c == '/' {
			return path[:i], path[i+1:]
		}
	}
	return path, nil
}

// collapse appends the route of a path that no template matches to buf: what looks like the id of something is "{id}", and what is
// deep or long is cut with "*".
func collapse(buf, path []byte) []byte {
	if len(path) == 0 || path[0] != '/' {
		return append(buf, Other...)
	}
	rest := trimSlash(path)
	if len(rest) == 0 {
		return append(buf, '/')
	}
	for n := 0; len(rest) > 0; n++ {
		if n == routeSegments || len(buf) > routeLength {
			return append(buf, "/*"...)
		}
		var segment []byte
		segment, rest = cutSegment(rest)
		buf = append(buf, '/')
		if looksLikeID(segment) {
			buf = append(buf, "{id}"...)
		} else {
			buf = append(buf, segment...)
		}
	}
	return buf
}

// looksLikeID reports whether a segment is a number, a uuid, eight hex digits or more with a digit among them, or a long token: one of
// more than 24 bytes, or of 16 with digits and both cases, or many digits, in it.
func looksLikeID(segment []byte) bool {
	digits, hex, upper, lower := 0, 0, false, false
	for _, c := range segment {
		switch {
		case digit(c):
			digits++
			hex++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', c == '-':
			hex++
		case c == '#', c == '%', c == '@', c == '=', c == ';', c == ',', c == ':':
			return true // encoded, or said by somebody
		}
		upper, lower = upper || c >= 'A' && c <= 'Z', lower || c >= 'a' && c <= 'z'
	}
	n := len(segment)
	return n > 0 && digits == n || n >= 8 && hex == n && digits > 0 || n > 24 ||
		n >= 16 && (digits >= 4 || digits > 0 && upper && lower)
}

// route returns the account of a request's route, nil if it has none. Without a template, answers that say the path or method is wrong count under Other, so that who
// looks for holes in a service makes no routes of them. What a request counts under depends on no other request, unless there are too many.
func (a *Aggregator) route(s *service, r *Record) *part {
	if r.Kind != KindHTTP || s.name == NoService || s.name == Other || r.Truncated && len(r.Path) == 0 {
		return nil
	}
	a.scratch = a.scratch[:0]
	for i := range s.templates {
		if s.templates[i].matches(r.Path) {
			a.scratch = append(a.scratch, s.templates[i].text...)
			break
		}
	}
	switch {
	case len(a.scratch) > 0:
	case r.Status == 400, r.Status == 404, r.Status == 405:
		a.scratch = append(a.scratch, Other...)
	default:
		a.scratch = collapse(a.scratch, r.Path)
	}
	if at := s.routes[string(a.scratch)]; at != nil {
		return at
	}
	return a.partNamed(s.routes, string(a.scratch), "route", a.cfg.MaxRoutes)
}
