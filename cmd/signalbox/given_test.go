package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"signalbox/haproxy"
)

func TestWhatTheOperatorGives(t *testing.T) {
	lists, pages := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lists, "staff", "# who works here\nann:$6$saltsalt$abc./\n\nbob:$2y$05$abc\n")
	write(lists, ".hidden", "nonsense")
	write(pages, "busy.html", "<h1>later</h1>")
	s := &settings{UserLists: lists, ErrorPages: pages, Prefer: "local"}
	g, err := readGiven(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := []haproxy.User{{Name: "ann", Hash: "$6$saltsalt$abc./"}, {Name: "bob", Hash: "$2y$05$abc"}}; len(g.userLists) != 1 || !slices.Equal(g.userLists["staff"], want) {
		t.Errorf("the lists are %v", g.userLists)
	}
	if string(g.errorPages["busy.html"]) != "<h1>later</h1>" {
		t.Errorf("the pages are %v", g.errorPages)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if g.prefer != haproxy.PreferLocal || !slices.Contains(g.node, name) || slices.Contains(g.node, "127.0.0.1") {
		t.Errorf("preferred is %q at %v", g.prefer, g.node)
	}
	for text, want := range map[string]string{
		"ann": "line 1", "ann:secret": "line 1", "x:$6$a$b\nann:$apr1$a$b": "line 2", "a b:$6$a$b": "line 1",
	} {
		write(lists, "broken", text)
		if _, err := readGiven(s); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	write(lists, "broken", "")
	for text, want := range map[string]string{"": "empty", strings.Repeat("x", 20000): "larger", "HTTP/1.1 503 No\nX: y\n\n": "CR LF"} {
		write(pages, "bad", text)
		if _, err := readGiven(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, dir := range []string{lists, pages} {
		odd := filepath.Join(dir, "odd")
		if err := syscall.Mkfifo(odd, 0o600); err != nil {
			t.Fatal(err)
		}
		write(pages, "bad", "good")
		if _, err := readGiven(s); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("a pipe: %v", err)
		}
		if err := os.Remove(odd); err != nil {
			t.Fatal(err)
		}
		write(dir, "odd", strings.Repeat("#", 2<<20))
		if _, err := readGiven(s); err == nil || !strings.Contains(err.Error(), "larger") {
			t.Errorf("a large file: %v", err)
		}
		if err := os.Remove(odd); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readGiven(&settings{UserLists: filepath.Join(lists, "none")}); err == nil {
		t.Error("a directory that is not there was read")
	}
}

// What the admin API says of lists of users are their names.
func TestStateHasNoHashes(t *testing.T) {
	o := &haproxy.Options{UserLists: map[string][]haproxy.User{"staff": {{Name: "ann", Hash: "$6$a$b"}}}}
	public := withoutHashes(o)
	if len(public.UserLists["staff"]) != 0 || public.UserLists["staff"] == nil || len(o.UserLists["staff"]) != 1 {
		t.Errorf("%v of %v", public.UserLists, o.UserLists)
	}
}
