package labels

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"signalbox"
)

// list returns n items, separated by spaces.
func list(format string, n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(items, " ")
}

// What one app asks for is bounded, over all of its ports: every slave carries it.
func TestAnAppHasSoManyRoutes(t *testing.T) {
	ports := []Port{{Index: 0}, {Index: 1}, {Index: 2}}
	for name, c := range map[string]struct {
		labels            map[string]string
		routes            []int
		expressions, told int
	}{
		"hosts and paths": {
			map[string]string{"signalbox.host": list("h%d.x", 256), "signalbox.path": list("/p%d", 256), "signalbox.2.host": "late.x"},
			[]int{4096, 0, 0},
			0, 2,
		},
		"ports": {
			map[string]string{
				"signalbox.0.host": list("a%d.x", 200), "signalbox.0.path": list("/p%d", 10),
				"signalbox.1.host": list("b%d.x", 200), "signalbox.1.path": list("/p%d", 11), "signalbox.2.host": "late.x",
			},
			[]int{2000, 2096, 0},
			0, 2,
		},
		"as many as there may be": {
			map[string]string{"signalbox.host": list("h%d.x", 256), "signalbox.path": list("/p%d", 16)}, []int{4096, 0, 0}, 0, 0,
		},
		"expressions of paths": {
			map[string]string{"signalbox.host": "h.x i.x", "signalbox.path": list("/[a-z]+/%d", 40), "signalbox.path-match": "regex"},
			[]int{64, 0, 0},
			64, 1,
		},
		"expressions of hosts": {
			map[string]string{
				"signalbox.host": list("~h[0-9]+x%d", 70) + " plain.x", "signalbox.path": "/a /b",
				"signalbox.1.host": "~one[0-9] two.x",
			},
			[]int{130, 1, 0},
			64, 2,
		},
	} {
		began := time.Now()
		r := Parse("/app", c.labels, ports, Options{})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		hosts, expressions, told := map[string]bool{}, 0, 0
		for i, p := range r.Ports {
			if len(p.Routes) != c.routes[i] {
				t.Errorf("%s: port %d has %d routes, want %d", name, i, len(p.Routes), c.routes[i])
			}
			for _, route := range p.Routes {
				if route.Match == signalbox.Regex {
					expressions++
				}
				if strings.HasPrefix(route.Host, "~") && !hosts[route.Host] {
					hosts[route.Host] = true
					expressions++
				}
			}
			for _, problem := range p.Problems {
				if problem.Code == "SB106" && strings.Contains(problem.Message, "an app may have") {
					told++
				}
			}
		}
		if expressions != c.expressions || told != c.told {
			t.Errorf("%s: %d expressions and %d problems, want %d and %d", name, expressions, told, c.expressions, c.told)
		}
	}
}
