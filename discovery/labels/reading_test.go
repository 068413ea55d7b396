package labels

import (
	"fmt"
	"strings"
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

// A password's hash is shown nowhere, however the label that brings it is spelt and whatever is wrong with it.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "s3cr3t"
	names := []string{
		"signalbox.auth", "signalbox.0.auth", "signalbox.http.auth", "signalbox.7.auth", "signalbox.nope.auth", "signalbox.au\u200bth", "signalbox.auht", "signalbox.0.aut",
		"Signalbox.auth", "singalbox.auth", "signalbox_auth", "signalbox.auth.0", "signalbox..auth", "signalbox.Auth", "signalbox.basic-auth", "signalbox.password",
		"HAPROXY_0_AUTH", "HAPROXY_9_AUTH", "HAPROXY_AUTH", "haproxy_0_auth", "HAPROXY_0_AUHT", "HAPROXY_0_USERLIST_HEAD",
	}
	values := []string{
		"shop:ann:" + secret, "shop:ann:$6$salt$" + secret, "shop:a b:$1$" + secret, secret + "!", "shop:" + secret, "a:b:c:" + secret, "shop:ann:\u00a0" + secret + "\n",
		"shop:ann:$6$rounds=999999$salt$" + secret + "01234567890123456789012345678901234567890123456789012345678901234567890123456789",
	}
	for _, name := range names {
		for _, value := range values {
			r := Parse("/a", map[string]string{name: value, "signalbox.host": "a.local"}, twoPorts, Options{})
			keepAll(r, Parse("/a", map[string]string{"signalbox.host": "a.local", "signalbox.auth": "shop:ann:" + someHash}, twoPorts, Options{}))
			for _, p := range r.Ports {
				for _, reading := range p.Readings() {
					if strings.Contains(reading.Value, secret) {
						t.Errorf("%s=%q is read as %q", name, value, reading.Value)
					}
				}
			}
			if s := text(r); strings.Contains(s, secret) || strings.Contains(s, someHash) {
				t.Errorf("%s=%q is told of:\n%s", name, value, s)
			}
		}
	}
}

// A label that nobody knows, or that is for a port that the app lacks, is read as ignored.
func TestReadShowsWhatIsIgnored(t *testing.T) {
	var got []string
	for _, r := range Read("/a", map[string]string{"signalbox.hots": "x", "signalbox.7.host": "y", "signalbox.host": "a.local", "team": "z"}, []Port{{Index: 0}}, Options{}) {
		got = append(got, fmt.Sprintf("%d %s=%s %s", r.Port, r.Label, r.Value, r.State))
	}
	want := []string{"0 signalbox.host=a.local in force", "-1 signalbox.hots=x ignored", "-1 signalbox.7.host=y ignored"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}
