package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// A Marathon that has lost everything shrinks nothing, until somebody who knows that it is real says so.
func TestWhatIsHeldBackIsAccepted(t *testing.T) {
	listen := freeAddress(t)
	base := "http://" + listen
	marathon := func() *process {
		m := start(t, nil, "devcluster", "--listen", listen, "--agents", "127.0.0.2", "--dir", shortDir(t))
		eventually(t, "Marathon answers", func() bool {
			resp, err := http.Get(base + "/ping")
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		}, m.text)
		return m
	}
	m := marathon()
	put(t, base, "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	n := newNode(t, base)
	n.run("--quarantine-reads", "1000", "--quarantine-span", "24h") // nothing passes by itself
	n.answers("shop.local", "/", 200)
	m.end(t, syscall.SIGKILL)
	marathon()
	text := ""
	eventually(t, "the empty state is held back", func() bool {
		code := 0
		code, text = n.code("accept")
		return code == 2
	}, func() string { return text })
	for _, want := range []string{"1 now, 0 then", "missing: /shop", "- route /shop:0 shop.local/", "signalbox accept marathon --yes"} {
		if !strings.Contains(text, want) {
			t.Errorf("accept does not say %q:\n%s", want, text)
		}
	}
	if h := n.health(); h.Apps != 1 {
		t.Errorf("%d apps are routed while nothing is accepted", h.Apps)
	}
	if code, out := n.code("accept", "--yes"); code != 0 || !strings.Contains(out, "accepted: marathon has 0 apps and 0 tasks now") {
		t.Errorf("accept ends with %d:\n%s", code, out)
	}
	n.answers("shop.local", "/", 404)
	if text := n.verb("history"); !strings.Contains(text, "marathon: accepted by ") {
		t.Errorf("the history does not say who accepted:\n%s", text)
	}
}
