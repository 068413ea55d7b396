package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const accessLine = `10.0.0.1:4 [25/Nov/2026:23:46:32.152] web shop/s1 0/0/0/1/300 200 500 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"` + "\n"

// A compressed log says the same as a plain one, from a file and from standard input; a broken one says so, after what it says.
func TestReplayCompressed(t *testing.T) {
	clearEnvironment(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for range 3 {
		// Rotated logs that are joined have a header each.
		_, _ = w.Write([]byte(strings.Repeat(accessLine, 1000)))
		_ = w.Close()
		w.Reset(&packed)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := func(wantCode int, words, stdin string, args ...string) {
		t.Helper()
		code, stdout, stderr := invokeWith(t, stdin, append([]string{"replay"}, args...)...)
		if code != wantCode || !strings.Contains(stdout+stderr, words) {
			t.Errorf("%q: %d, want %d and %q:\n%s%s", args, code, wantCode, words, stdout, stderr)
		}
		if strings.Contains(stderr, "\r") {
			t.Errorf("%q: progress where there is no terminal: %q", args, stderr)
		}
	}
	f(exitOK, "3000 requests in 3000 lines", "", write("log.gz", packed.Bytes()))
	f(exitOK, "3000 requests in 3000 lines", packed.String(), "-")
	f(exitOK, "3000 requests in 3000 lines", strings.Repeat(accessLine, 3000), "-")
	f(exitFindings, "unexpected EOF", "", write("cut.gz", packed.Bytes()[:packed.Len()-20]))
	f(exitFindings, "shop", "", write("cut.gz", packed.Bytes()[:packed.Len()-20]))
	f(exitUsage, "invalid header", "\x1f\x8bno header at all", "-")
	f(exitFindings, "no line", "", write("empty", nil))
	f(exitFindings, `"requests": 0`, "", "-o", "json", write("empty", nil))
	f(exitUsage, "it is a directory", "", dir)
	f(exitUsage, "accepts 1 arg", "")
}

func TestProgress(t *testing.T) {
	for _, one := range []struct {
		read, size int64
		lines      uint64
		spent      time.Duration
		want       string
	}{
		{0, 1000, 0, 0, "[" + strings.Repeat("·", 30) + "] 0 %  0 lines  0 lines/s  0 MB/s"},
		{50e6, 100e6, 1234567, 500 * time.Millisecond, "[" + strings.Repeat("#", 15) + strings.Repeat("·", 15) + "] 50 %  1.23M lines  2.47M lines/s  100 MB/s"},
		{150e6, 100e6, 1, time.Second, "[" + strings.Repeat("#", 30) + "] 100 %  1 lines  1 lines/s  150 MB/s"},
		{5e6, 0, 45600, time.Second, "45.6k lines  45.6k lines/s  5 MB/s"},
	} {
		if got := progress(one.read, one.size, one.lines, one.spent); got != one.want {
			t.Errorf("progress(%d, %d, %d, %v):\n%s\nwant\n%s", one.read, one.size, one.lines, one.spent, got, one.want)
		}
	}
}
