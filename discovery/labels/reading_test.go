package labels

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Of several labels with one key the stronger form holds, and each says what became of it.
func TestReadingsSayWhatBecameOfEachLabel(t *testing.T) {
	got := Parse("/a", map[string]string{
		"signalbox.0.host": "zero.local, bad_name!", "signalbox.host": "app.local", "HAPROXY_0_VHOST": "old.local",
		"signalbox.path": "no-slash", "HAPROXY_0_PORT": "10001", "others": "x",
	}, []Port{{Index: 0, Labels: map[string]string{"signalbox.mode": "http"}}}, Options{}).Ports[0]
	var lines []string
	for _, r := range got.Readings() {
		lines = append(lines, fmt.Sprintf("%s %s=%s (%s) %s %s", r.Key, r.Label, r.Value, r.Form, r.State, r.By))
	}
	want := []string{
		"host signalbox.0.host=zero.local, bad_name! (signalbox.N.key) in part ",
		"host signalbox.host=app.local (signalbox.key) overridden signalbox.0.host",
		"host HAPROXY_0_VHOST=old.local (HAPROXY_N_X) overridden signalbox.0.host",
		"mode signalbox.mode=http (a label of the port) in force ",
		"path signalbox.path=no-slash (signalbox.key) refused ",
		"port HAPROXY_0_PORT=10001 (HAPROXY_N_X) in force ",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func TestReadingsKeepSecrets(t *testing.T) {
	for _, f := range []struct{ key, label, value, want string }{
		{"auth", "signalbox.auth", "shop:ann:$5$rounds=5000$x$y", "shop:ann:…"},
		{"auth", "signalbox.auth", "staff", "staff"},
		{"auth", "signalbox.auth", "shop:ann:hash1,bob:hash2", "shop:ann:…"},
		{"auth", "signalbox.auth", "ann:hash", "ann:…"},
		{"auth", "signalbox.auth", "hunter2!", "…"},
		{"auth", "HAPROXY_0_AUTH", "realm:user:hash", "realm:user:…"},
		{"request-header", "signalbox.request-header", "Authorization: Basic eDp5", "Authorization: …"},
		{"request-header", "signalbox.request-header", "X-Api-Key: 123", "X-Api-Key: …"},
		{"request-header", "signalbox.request-header", "X-Team: shop", "X-Team: shop"},
		{"request-header", "signalbox.request-header", "X-Team: shop\nX-Token:abc", "X-Team: shop; X-Token: …"},
		{"", "signalbox.auht", "realm:user:hash", "…"},
		{"", "signalbox.user", "realm:user:$6$salt$hash", "…"},
		{"host", "signalbox.host", "a.local", "a.local"},
	} {
		c := claim{key: f.key, label: f.label, value: f.value}
		if got := c.shown(); got != f.want {
			t.Errorf("%s=%q is shown as %q, want %q", f.label, f.value, got, f.want)
		}
	}
	if c := (claim{secret: true, value: "a:b:secret"}); c.shown() != "…" {
		t.Errorf("a secret is shown as %q", c.shown())
	}
}
