package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// appService is an id as services of apps have it: "/shop/cart:0".
var appService = regexp.MustCompile(`^/[A-Za-z0-9.-]+(?:/[A-Za-z0-9.-]+)*:[0-9]+$`)

// mostWord is the length of the longest word: a file's name on the server's side holds 255 bytes.
const mostWord = 180

// serviceWord returns a service's name as one part of a dotted name: "shop_cart_0" for /shop/cart:0. Different services have different
// words: those of apps have single underscores, all others none.
func serviceWord(id string) string {
	if !appService.MatchString(id) {
		return bounded(id, escape(id, false))
	}
	colon := strings.LastIndexByte(id, ':')
	parts := strings.Split(id[1:colon], "/")
	for i := range parts {
		parts[i] = escape(parts[i], false)
	}
	return bounded(id, strings.Join(parts, "_")+"_"+id[colon+1:])
}

// services remembers the word of the service that points are about just now: they come one service after the other.
type services struct{ id, word string }

func (s *services) wordOf(id string) string {
	if s.id != id || s.word == "" {
		s.id, s.word = id, serviceWord(id)
	}
	return s.word
}

// hostName is a node's name as machines have it.
var hostName = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)

// nodeWord returns a node's name as one part of a dotted name: "node-1_example" for node-1.example.
func nodeWord(node string) string {
	if !hostName.MatchString(node) {
		return word(node)
	}
	return bounded(node, strings.ReplaceAll(node, ".", "_"))
}

// word returns a label's value as one part of a dotted name. Letters, digits, - and single underscores stay, everything else is
// two underscores and its bytes in hexadecimal. Different values have different words.
func word(s string) string {
	if s == "" {
		return "__"
	}
	return bounded(s, escape(s, true))
}

func escape(s string, underscores bool) string {
	var b strings.Builder
	stood := false // the last byte written is an underscore that stood there
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
			b.WriteByte(c)
			stood = false
		case c == '_' && underscores && !stood:
			b.WriteByte(c)
			stood = true
		default:
			b.WriteString("__" + hex.EncodeToString([]byte{c}))
			stood = false
		}
	}
	return b.String()
}

// bounded cuts what is too long, and adds a hash of the whole.
func bounded(whole, w string) string {
	if len(w) <= mostWord {
		return w
	}
	sum := sha256.Sum256([]byte(whole))
	return w[:mostWord-20] + "____" + hex.EncodeToString(sum[:8])
}

// tagValue returns a value in which the bytes of forbidden, blanks, control characters, % and whatever is not ASCII are written as %20.
func tagValue(s, forbidden string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '%' && strings.IndexByte(forbidden, c) < 0 }
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{s[i]})))
	}
	return bounded(s, b.String())
}

// tags returns the service and the labels of p that have a value, as tags.
func (p *Point) tags(between, forbidden string) []string {
	var out []string
	if p.Service != "" {
		out = append(out, "service"+between+tagValue(p.Service, forbidden))
	}
	for _, l := range p.Labels {
		if l.Value != "" {
			out = append(out, l.Name+between+tagValue(l.Value, forbidden))
		}
	}
	return out
}

// dotted adds the words of a name without tags: the service's, p's own, and one of each label's value.
func (p *Point) dotted(name []string, words *services) []string {
	if p.Service != "" {
		name = append(name, words.wordOf(p.Service))
	}
	name = append(name, p.Name)
	for _, l := range p.Labels {
		name = append(name, word(l.Value))
	}
	return name
}

// number prints a figure as shortly as it can be read back.
func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
