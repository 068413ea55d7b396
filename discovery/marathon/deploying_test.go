package marathon

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever is told hears of each beginning and each end once, also of an app that is gone and of a pod whose end no event told.
func TestDeploying(t *testing.T) {
	var told []string
	d := deploying{tell: func(app string, running bool) { told = append(told, fmt.Sprint(app, " ", running)) }}
	d.set("/a", "")
	d.set("/a", "one")
	d.set("/a", "two")
	d.set("/gone", "one")
	d.set("/pod", "one")
	d.retain([]reading{{app: "/a"}, {app: "/b"}, {app: "/pod", pod: true}})
	d.set("/a", "")
	slices.Sort(told)
	if diff := cmp.Diff([]string{"/a false", "/a true", "/gone false", "/gone true", "/pod false", "/pod true"}, told); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
