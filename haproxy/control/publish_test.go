package control

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func counterValue(t *testing.T, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// failingDisk is a disk without space while fail is set.
type failingDisk struct {
	disk
	fail atomic.Bool
}

func (d *failingDisk) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (string, error) {
	if d.fail.Load() {
		return "", &fs.PathError{Op: "write", Path: dir, Err: syscall.ENOSPC}
	}
	return d.disk.WriteTemp(dir, prefix, data, mode, gid)
}

// dyingDisk is a disk whose process dies at the step number left: that step and all later ones do nothing.
type dyingDisk struct {
	disk
	left  int
	steps int
}

var errDead = errors.New("dead")

func (d *dyingDisk) step() error {
	d.steps++
	if d.left == 0 {
		return errDead
	}
	d.left--
	return nil
}

func (d *dyingDisk) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (string, error) {
	if err := d.step(); err != nil {
		if d.steps == 1 || d.left == 0 { // half a file stays behind
			_ = os.WriteFile(filepath.Join(dir, prefix+"half"), data[:len(data)/2], 0o600)
		}
		return "", err
	}
	return d.disk.WriteTemp(dir, prefix, data, mode, gid)
}

func (d *dyingDisk) Rename(a, b string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.Rename(a, b)
}

func (d *dyingDisk) Link(a, b string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.Link(a, b)
}

func (d *dyingDisk) Mkdir(p string, m fs.FileMode) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.Mkdir(p, m)
}

func (d *dyingDisk) SyncDir(p string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.SyncDir(p)
}

func (d *dyingDisk) Remove(p string) error {
	if d.left == 0 {
		return errDead
	}
	return d.disk.Remove(p)
}

func (d *dyingDisk) RemoveAll(p string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.RemoveAll(p)
}

func set(version string) []File {
	return []File{
		{configName, []byte("config " + version + "\n")},
		{"hosts.map", []byte("hosts " + version + "\n")},
		{"names.map", []byte("names of all versions\n")},
	}
}

func version(t *testing.T, files []File) string {
	t.Helper()
	got := map[string]string{}
	for _, f := range files {
		got[f.Name] = strings.TrimSpace(string(f.Data))
	}
	v := strings.TrimPrefix(got[configName], "config ")
	if got["hosts.map"] != "hosts "+v || got["names.map"] != "names of all versions" {
		t.Errorf("a mixed set: %v", got)
	}
	return v
}

func TestPublishSkipsWhatIsEqual(t *testing.T) {
	dir := t.TempDir()
	p := NewPublisher(dir, -1)
	for _, step := range []struct {
		files []File
		want  []string
	}{
		{set("1"), []string{"hosts.map", "names.map", configName}},
		{set("1"), nil},
		{set("2"), []string{"hosts.map", configName}},
	} {
		got, err := p.Publish(step.files)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(step.want, got); d != "" {
			t.Errorf("changed (-want +got):\n%s", d)
		}
	}
	// A new process knows what is there.
	if got, err := NewPublisher(dir, -1).Publish(set("2")); err != nil || got != nil {
		t.Errorf("changed %v, %v; want nothing", got, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, configName)); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", fi.Mode(), err)
	}
}

// Killed before any step of publishing and keeping, the disk leads to the old or the new set, whole.
func TestPublishKilledAtEveryStep(t *testing.T) {
	for n := 0; ; n++ {
		dir := t.TempDir()
		p := NewPublisher(dir, -1)
		if _, err := p.Publish(set("1")); err != nil {
			t.Fatal(err)
		}
		if err := p.Keep(); err != nil {
			t.Fatal(err)
		}
		d := &dyingDisk{disk: osDisk{}, left: n}
		p.disk = d
		_, err := p.Publish(set("2"))
		if err == nil {
			err = p.Keep()
		}
		after := NewPublisher(dir, -1)
		restored, rerr := after.Restore()
		if rerr != nil {
			t.Fatalf("killed at step %d: %v", n, rerr)
		}
		v := version(t, restored.Files)
		if v != "1" && v != "2" || err == nil && v != "2" {
			t.Errorf("killed at step %d: version %q from %q", n, v, restored.From)
		}
		left, _ := filepath.Glob(filepath.Join(dir, ".*.tmp-*"))
		if len(left) > 0 {
			t.Errorf("killed at step %d: left behind %v", n, left)
		}
		if again, err := after.Load(); err != nil || version(t, again) != v {
			t.Errorf("killed at step %d: the restored set does not load: %v", n, err)
		}
		if err == nil {
			if n < 8 {
				t.Errorf("only %d steps were killed", n)
			}
			return
		}
	}
}

func TestPublishOnAFullDiskChangesNothing(t *testing.T) {
	dir := t.TempDir()
	d := &failingDisk{disk: osDisk{}}
	p := NewPublisher(dir, -1)
	p.disk = d
	if _, err := p.Publish(set("1")); err != nil {
		t.Fatal(err)
	}
	d.fail.Store(true)
	if _, err := p.Publish(set("2")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want ENOSPC", err)
	}
	if files, err := p.Load(); err != nil || version(t, files) != "1" {
		t.Errorf("loaded %v, %v", files, err)
	}
	d.fail.Store(false)
	if _, err := p.Publish(set("2")); err != nil {
		t.Fatal(err)
	}
	if files, err := p.Load(); err != nil || version(t, files) != "2" {
		t.Errorf("loaded %v, %v", files, err)
	}
}

// A file cut at the end of a line is valid to HAProxy, so only the sums can tell.
func TestRestoreTakesTheLastGoodSet(t *testing.T) {
	for _, broken := range []string{configName, "hosts.map", manifest} {
		dir := t.TempDir()
		p := NewPublisher(dir, -1)
		for i := range 3 {
			if _, err := p.Publish(set(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if err := p.Keep(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Publish(set("3")); err != nil {
			t.Fatal(err)
		}
		// A new file in its place, as a crash of the machine would leave one: the links of the generations keep theirs.
		path := filepath.Join(dir, broken)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		after := NewPublisher(dir, -1)
		if _, err := after.Load(); !errors.Is(err, ErrTorn) {
			t.Errorf("%s empty: %v, want ErrTorn", broken, err)
		}
		restored, err := after.Restore()
		if err != nil || restored.From != "good.1" || version(t, restored.Files) != "2" || !errors.Is(restored.Why, ErrTorn) {
			t.Errorf("%s empty: restored %+v, %v", broken, restored, err)
		}
	}
}

// A manifest that lost lines at its end would otherwise list fewer files, all of them whole.
func TestCutManifestIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	p := NewPublisher(dir, -1)
	if _, err := p.Publish(set("1")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, manifest)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewPublisher(dir, -1).Load(); !errors.Is(err, ErrTorn) {
			t.Fatalf("the first %d bytes %q: %v, want ErrTorn", n, whole[:n], err)
		}
	}
	for _, foreign := range []string{"", "hello\n", strings.Repeat("0", 64) + "  haproxy.cfg\n"} {
		if err := os.WriteFile(path, []byte(foreign), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewPublisher(dir, -1).Load(); !errors.Is(err, ErrTorn) {
			t.Errorf("%q: %v, want ErrTorn", foreign, err)
		}
	}
}

func TestGenerationsOnlyGrow(t *testing.T) {
	dir := t.TempDir()
	want := uint64(0)
	for i := range 3 {
		p := NewPublisher(dir, -1) // of another process
		for j := range 2 {
			if _, err := p.Publish(set(fmt.Sprint(i, j))); err != nil {
				t.Fatal(err)
			}
			if want++; p.generation != want {
				t.Fatalf("generation %d, want %d", p.generation, want)
			}
		}
		if err := p.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "hosts.map")); err != nil {
		t.Fatal(err)
	}
	restored, err := NewPublisher(dir, -1).Restore()
	if err != nil || restored.From != "good.1" || restored.Generation <= want {
		t.Errorf("restored %+v, %v: what is published anew has a generation of its own", restored, err)
	}
}

func TestTrailerStandsForTheFile(t *testing.T) {
	body := []byte("global\n")
	whole := fmt.Appendf(nil, "%s# sha256 %x\n", body, sha256.Sum256(body))
	if !matches(whole, sum(whole)) {
		t.Error("a whole file does not match its sum")
	}
	other := fmt.Appendf(nil, "globaX\n# sha256 %x\n", sha256.Sum256(body))
	for _, bad := range [][]byte{body, nil, whole[:len(whole)-1], other} {
		if matches(bad, sum(whole)) {
			t.Errorf("%q passes for the whole file", bad)
		}
	}
}
