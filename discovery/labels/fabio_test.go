package labels

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each tag of fabio's, what it asks for, and what is said of the rest.
func TestReadFabio(t *testing.T) {
	for _, c := range []struct{ tags, ports, problems string }{
		{"shop.local/", "0 shop.local/: host=shop.local path=/", ""},
		{"Shop.Local/Cart/", "0 shop.local/Cart: host=shop.local path=/Cart", ""},
		{"/cart", "0 /cart: host=* path=/cart", ""},
		{"a/ | b/", "0 a/: host=a b path=/", ""},
		{"a/x | a/y | b/x | b/y", "0 a/x: host=a b path=/x /y", ""},
		{"a/x | b/y", "0 a/x: host=a path=/x; 1 b/y: host=b path=/y", ""},
		{"a/x strip=/x", "0 a/x: host=a path=/x strip-prefix=true", ""},
		{"a/x strip=/x prepend=/y", "0 a/x: host=a path=/x rewrite-path=/y", ""},
		{"a/x prepend=/y", "0 a/x: host=a path=/x rewrite-path=/y/x", ""},
		{"a/x strip=/z prepend=/y", "", "E prepend goes with strip only where that is the path"},
		{":5432 proto=tcp", "0 port-5432: mode=tcp port=5432", ""},
		{":5432", "", "E a port alone needs proto=tcp"},
		{"a/ proto=tcp", "", "E proto=tcp needs a port alone"},
		{"a/ proto=tcp+sni", "0 a/: host=a tls=passthrough", ""},
		{"a/ proto=https", "0 a/: backend-tls=verify host=a path=/", ""},
		{"a/ proto=https tlsskipverify=true", "0 a/: backend-tls=insecure host=a path=/", ""},
		{"a/ proto=grpc", "0 a/: host=a http2=true path=/", ""},
		{"a/ proto=spdy", "", "E proto=spdy is not known here"},
		{"a/ host=b", "0 a/: host=a path=/ rewrite-host=b", ""},
		{"a/ host=dst", "0 a/: host=a path=/", "W the option host is unknown here"},
		{"a/ allow=ip:10.0.0.0/8,ip:::1", "0 a/: allow=10.0.0.0/8 ::1 host=a path=/", ""},
		{"a/ allow=10.0.0.0/8", "", "E allow=10.0.0.0/8 is not a list of ip:NETWORK"},
		{"a/ deny=ip:10.0.0.0/8", "", "E deny cannot be carried out: say who may enter with allow"},
		{"a/ redirect=301,https://a$path", "0 a/: host=a https-redirect=true path=/", ""},
		{"a/ redirect=301,https://b/", "", "E of redirects only those to https of the same host can be carried out"},
		{"a/ redirect=", "", "E of redirects only those to https of the same host can be carried out"},
		{"a/ weight=0.2", "0 a/: host=a path=/", "W the option weight is unknown here"},
		{"$HOST/", "", "E it has a placeholder, which only fabio fills in"},
		{"a", "", "E it has no path: a slash at its end stands for all"},
		{"", "", "E it names nothing"},
		{"a/\x00", "0 a/_: host=a path=/\x00", ""}, // Parse refuses it, as it does from any label
	} {
		var tags []string
		for tag := range strings.SplitSeq(c.tags, " | ") {
			tags = append(tags, tag)
		}
		ports, problems := ReadFabio(tags)
		var got, said []string
		for _, p := range ports {
			var all []string
			for _, l := range table {
				if v, ok := p.Labels[nativePrefix+l.Key]; ok {
					all = append(all, l.Key+"="+v)
				}
			}
			if len(all) != len(p.Labels) {
				t.Errorf("%q: a label is not in the table: %v", c.tags, p.Labels)
			}
			got = append(got, fmt.Sprintf("%d %s: %s", p.Index, p.Name, strings.Join(slices.Sorted(slices.Values(all)), " ")))
		}
		for _, p := range problems {
			said = append(said, strings.ToUpper(fmt.Sprint(p.Severity)[:1])+" "+p.Message)
			if p.Code != "SB323" || p.Label == "" || p.Action == "" {
				t.Errorf("%q: the problem lacks something: %+v", c.tags, p)
			}
		}
		if g := strings.Join(got, "; "); g != c.ports {
			t.Errorf("%q asks for\n%q, not\n%q", c.tags, g, c.ports)
		}
		if s := strings.Join(said, "; "); s != c.problems {
			t.Errorf("%q: it is said\n%q, not\n%q", c.tags, s, c.problems)
		}
	}
}

// Whatever stands in a tag, it neither crashes nor gets past what reads labels.
func FuzzReadFabio(f *testing.F) {
	f.Add("a/x strip=/x prepend=/y proto=https redirect=3,", ":1 proto=tcp")
	f.Fuzz(func(t *testing.T, a, b string) {
		ports, _ := ReadFabio([]string{a, b})
		if len(ports) > 2 {
			t.Errorf("two tags are %d ports", len(ports))
		}
		Parse("/a", nil, ports, Options{})
	})
}
