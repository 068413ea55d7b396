package relay

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddresses(t *testing.T) {
	for text, want := range map[string]Address{
		"consul://127.0.0.1:8500/signalbox":         {[]string{"http://127.0.0.1:8500"}, "signalbox"},
		"consul+https://a:8501,[::1]:8501/x/relay/": {[]string{"https://a:8501", "https://[::1]:8501"}, "x/relay"},
	} {
		got, err := ParseAddress(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "consul", "http://a:8500/x", "consul://a:8500", "consul://a:8500/", "consul://a/x", "consul://u:secret@a:8500/x", "consul://a:8500/x?token=secret", "consul:///x"} {
		if _, err := ParseAddress(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
