package discovery

import (
	"strings"
	"testing"
)

func TestCausesAreJoinedAndBounded(t *testing.T) {
	got := ""
	for _, next := range []string{"marathon: resync", "", "marathon: resync", "file: changed", "marathon: resync"} {
		got = Causes(got, next)
	}
	if got != "marathon: resync; file: changed" {
		t.Errorf("joined: %q", got)
	}
	for range 100 {
		got = Causes(got, "marathon: event api_post_event /"+strings.Repeat("x", len(got)))
	}
	if len(got) > 2*maxCauses || !strings.HasSuffix(got, "; …") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
