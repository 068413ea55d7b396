package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

// What was published is read back under the names by which it is rendered, so that diff finds nothing where nothing differs: with every
// way in, the operator's pages and certificates too. Keys are not read.
func TestLiveHasEveryFileThatIsRendered(t *testing.T) {
	s := defaults()
	s.StateDir, s.Admin, s.HTTPBind = t.TempDir(), []string{"unix:" + filepath.Join(t.TempDir(), "admin.sock")}, []string{"127.0.0.1:8000"}
	s.HTTPSBind, s.AppIDBind, s.ServicePortRange, s.ErrorPages = []string{"127.0.0.1:8443"}, []string{"127.0.0.1:9091"}, "10000-10009", t.TempDir()
	if err := os.WriteFile(filepath.Join(s.ErrorPages, "sorry"), []byte("<h1>Sorry</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := newJournal(io.Discard, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(&s, j, lifetime{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	own := &signalbox.Service{ID: "/own:0", App: "/own", Mode: signalbox.TCP, Routes: []signalbox.Route{{Host: "own.local", Path: "/"}}}
	own.Policy.Passthrough = true
	c.wanted.Store(haproxy.Build(signalbox.NewTable([]*signalbox.Service{own}, nil), c.options, nil))
	want, err := c.render()
	if err != nil {
		t.Fatal(err)
	}
	manifest := ""
	for _, f := range append([]admin.File{{Name: haproxy.CertificateFile("default"), Content: "a key"}}, want...) {
		if err := os.WriteFile(filepath.Join(s.haproxyDir(), f.Name), []byte(f.Content), 0o600); err != nil {
			t.Fatal(err)
		}
		manifest += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(f.Content)), f.Name)
	}
	if err := os.WriteFile(filepath.Join(s.haproxyDir(), "manifest.sha256"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := c.live()
	if err != nil {
		t.Fatal(err)
	}
	names := func(files []admin.File) []string {
		var out []string
		for _, f := range files {
			out = append(out, f.Name)
		}
		slices.Sort(out)
		return out
	}
	if !slices.Equal(names(got), names(want)) || got[0].Name != "haproxy.cfg" {
		t.Errorf("live has %v, render %v", names(got), names(want))
	}
}
