package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// File is one file of the set that HAProxy reads.
type File struct {
	Name string // within the directory, without a slash
	Data []byte
}

// manifest lists the sha256 of every file of a set in the form of sha256sum(1), except that for a file whose last line is the sha256
// of all before it only that line is summed up. Its first line says which generation of files it is, its own last line is the sha256
// of all before it. It is written last, so a set that matches its manifest is whole.
const manifest = "manifest.sha256"

// generationLine begins the first line of a manifest.
const generationLine = "# generation "

// trailer begins the last line of a file that ends with the sha256 of all before it.
const trailer = "# sha256 "

// The last good sets, newest first.
var generations = []string{"good.1", "good.2"}

// ErrTorn says that a set of files does not match its manifest.
var ErrTorn = errors.New("the published files do not belong together")

// disk is what publishing needs of a file system. It exists so that tests can fail every step.
type disk interface {
	// WriteTemp writes data to a new file in dir, durably, and returns its path.
	WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (string, error)
	Rename(from, to string) error
	Link(from, to string) error
	Mkdir(path string, mode fs.FileMode) error
	Remove(path string) error
	RemoveAll(path string) error
	SyncDir(path string) error
	ReadFile(path string) ([]byte, error)
	ReadDir(path string) ([]fs.DirEntry, error)
}

// Publisher replaces a set of files such that whoever reads one finds the old or the new one, whole, after a crash too.
//
// All new files are written and synced before the first is renamed, so a full disk changes nothing. Maps are renamed before
// haproxy.cfg, and the manifest comes last. A HAProxy that starts between two renames reads a mixture that is harmless: a map entry
// whose backend does not exist counts as no entry, and the controller sees the new worker and corrects it.
type Publisher struct {
	dir  string
	gid  int // group that may read, -1 for the writer's own
	disk disk

	published  map[string][]byte // what is on disk, nil when unknown
	sums       map[string]string // of published
	generation uint64            // of published; it only grows
}

// NewPublisher returns a Publisher for an existing directory. Files get the mode 0640 and the group gid, unless that is -1.
func NewPublisher(dir string, gid int) *Publisher {
	return &Publisher{dir: dir, gid: gid, disk: osDisk{}}
}

// Publish puts a set of files in place and returns the names of those that changed. haproxy.cfg is renamed last of all whatever
// the order of files. On an error the files on disk are each whole, old or new, and the next Publish repeats what is missing.
func (p *Publisher) Publish(files []File) (changed []string, err error) {
	if p.published == nil {
		// What Load finds is what the comparison is made with; a torn or missing set is written anew.
		p.published, p.sums = map[string][]byte{}, map[string]string{}
		if old, err := p.load(p.dir); err == nil {
			p.know(old)
		}
	}
	var todo []File
	sums := make(map[string]string, len(files))
	for _, f := range files {
		if f.Name == "" || f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") || f.Name == manifest {
			return nil, fmt.Errorf("publishing: %q is not a file name", f.Name)
		}
		if old, ok := p.published[f.Name]; !ok || !bytes.Equal(old, f.Data) {
			todo = append(todo, f)
			sums[f.Name] = sum(f.Data)
		} else {
			sums[f.Name] = p.sums[f.Name]
		}
	}
	if len(todo) == 0 && len(files) == len(p.published) {
		return nil, nil
	}
	slices.SortStableFunc(todo, func(a, b File) int { return boolRank(a.Name == configName) - boolRank(b.Name == configName) })
	todo = append(todo, File{manifest, sealed(p.generation+1, sums)})

	temps := make([]string, 0, len(todo))
	defer func() {
		for _, t := range temps {
			_ = p.disk.Remove(t)
		}
	}()
	for _, f := range todo {
		t, err := p.disk.WriteTemp(p.dir, "."+f.Name+".tmp-", f.Data, 0o640, p.gid)
		if err != nil {
			return nil, fmt.Errorf("publishing %s: %w", f.Name, err)
		}
		temps = append(temps, t)
	}
	for _, f := range todo {
		if err := p.disk.Rename(temps[0], filepath.Join(p.dir, f.Name)); err != nil {
			p.published = nil
			return changed, fmt.Errorf("publishing %s: %w", f.Name, err)
		}
		temps = temps[1:]
		changed = append(changed, f.Name)
	}
	for name := range p.published {
		if !slices.ContainsFunc(files, func(f File) bool { return f.Name == name }) {
			_ = p.disk.Remove(filepath.Join(p.dir, name))
		}
	}
	if err := p.disk.SyncDir(p.dir); err != nil {
		p.published = nil
		return changed, fmt.Errorf("publishing: syncing %s: %w", p.dir, err)
	}
	p.published = make(map[string][]byte, len(files))
	for _, f := range files {
		p.published[f.Name] = f.Data
	}
	p.sums = sums
	p.generation++
	return changed[:len(changed)-1], nil
}

// current returns the set that is known to be on disk, none when unknown.
func (p *Publisher) current() []File {
	files := make([]File, 0, len(p.published))
	for _, name := range slices.Sorted(maps.Keys(p.published)) {
		files = append(files, File{name, p.published[name]})
	}
	return files
}

// know notes that a set is what is on disk.
func (p *Publisher) know(set fileSet) {
	p.published, p.sums = map[string][]byte{}, map[string]string{}
	for _, f := range set.files {
		p.published[f.Name], p.sums[f.Name] = f.Data, sum(f.Data)
	}
	p.generation = max(p.generation, set.generation)
}

// fileSet is a whole set with the number of its generation.
type fileSet struct {
	files      []File
	generation uint64
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sum returns what the manifest says of a file.
func sum(data []byte) string {
	if body, _, ok := cutTrailer(data); ok {
		data = data[len(body):]
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// matches reports whether a file that was read is whole and the one that listed stands for.
func matches(data []byte, listed string) bool {
	if body, said, ok := cutTrailer(data); ok && fmt.Sprintf("%x", sha256.Sum256(body)) != said {
		return false
	}
	return sum(data) == listed
}

func cutTrailer(data []byte) (body []byte, said string, ok bool) {
	line, ok := bytes.CutSuffix(data, []byte("\n"))
	if !ok {
		return nil, "", false
	}
	i := bytes.LastIndexByte(line, '\n') + 1
	hexSum, ok := bytes.CutPrefix(line[i:], []byte(trailer))
	return data[:i], string(hexSum), ok && len(hexSum) == hex.EncodedLen(sha256.Size)
}

func listing(sums map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name)
	}
	return b.Bytes()
}

// sealed returns a manifest.
func sealed(generation uint64, sums map[string]string) []byte {
	b := fmt.Appendf(nil, "%s%d\n%s", generationLine, generation, listing(sums))
	return fmt.Appendf(b, "%s%x\n", trailer, sha256.Sum256(b))
}

// Keep remembers the published set as the last good one. The one before it stays as the second generation.
func (p *Publisher) Keep() error {
	if p.published == nil {
		return fmt.Errorf("keeping the last good files: %w", ErrTorn)
	}
	fresh := filepath.Join(p.dir, "good.new")
	if err := p.disk.RemoveAll(fresh); err != nil {
		return fmt.Errorf("keeping the last good files: %w", err)
	}
	if err := p.disk.Mkdir(fresh, 0o750); err != nil {
		return fmt.Errorf("keeping the last good files: %w", err)
	}
	names := []string{manifest}
	for n := range p.published {
		names = append(names, n)
	}
	// Files are replaced, never written in place, so a link keeps today's content.
	for _, n := range names {
		if err := p.disk.Link(filepath.Join(p.dir, n), filepath.Join(fresh, n)); err != nil {
			return fmt.Errorf("keeping the last good files: %w", err)
		}
	}
	first, second := filepath.Join(p.dir, generations[0]), filepath.Join(p.dir, generations[1])
	if err := p.disk.RemoveAll(second); err != nil {
		return fmt.Errorf("keeping the last good files: %w", err)
	}
	if err := p.disk.Rename(first, second); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keeping the last good files: %w", err)
	}
	if err := p.disk.Rename(fresh, first); err != nil {
		return fmt.Errorf("keeping the last good files: %w", err)
	}
	return p.disk.SyncDir(p.dir)
}

// Published returns the names of the files that were last published in a directory, sorted; none before there are any.
func Published(dir string) ([]string, error) {
	list, err := os.ReadFile(filepath.Join(dir, manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which files are published: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(list)) {
		if _, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok && name == filepath.Base(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Load returns the published set if it is whole, sorted by name. The error wraps fs.ErrNotExist when there is none, ErrTorn when
// its files do not belong together.
func (p *Publisher) Load() ([]File, error) {
	set, err := p.load(p.dir)
	return set.files, err
}

func (p *Publisher) load(dir string) (fileSet, error) {
	var set fileSet
	list, err := p.disk.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return set, fmt.Errorf("loading the published files: %w", err)
	}
	body, said, ok := cutTrailer(list)
	if !ok || fmt.Sprintf("%x", sha256.Sum256(body)) != said {
		return set, fmt.Errorf("loading the published files: %w: %s is cut, damaged, or of another version", ErrTorn, manifest)
	}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSuffix(line, "\n")
		if n, ok := strings.CutPrefix(line, generationLine); ok {
			if set.generation, err = strconv.ParseUint(n, 10, 64); err != nil {
				return fileSet{}, fmt.Errorf("loading the published files: %w: generation %q", ErrTorn, n)
			}
			continue
		}
		listed, name, ok := strings.Cut(line, "  ")
		if !ok || name != filepath.Base(name) {
			return fileSet{}, fmt.Errorf("loading the published files: %w: bad manifest line %q", ErrTorn, line)
		}
		data, err := p.disk.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return fileSet{}, fmt.Errorf("loading the published files: %w: %w", ErrTorn, err)
		}
		if !matches(data, listed) {
			return fileSet{}, fmt.Errorf("loading the published files: %w: %s differs from its sum", ErrTorn, name)
		}
		set.files = append(set.files, File{name, data})
	}
	if len(set.files) == 0 {
		return fileSet{}, fmt.Errorf("loading the published files: %w: empty manifest", ErrTorn)
	}
	return set, nil
}

// Restored is a whole set that is in place.
type Restored struct {
	Files      []File
	Generation uint64
	From       string // "" for what was published, else which generation took its place: "good.1" or "good.2"
	Why        error  // of From: what is wrong with everything newer
}

// Restore makes sure that a whole set is in place: the published one, or else the newest good generation, which it publishes. The
// error wraps fs.ErrNotExist when there has never been one, ErrTorn when none is whole.
func (p *Publisher) Restore() (Restored, error) {
	p.sweep()
	set, err := p.load(p.dir)
	if err == nil {
		p.know(set)
		return Restored{Files: set.files, Generation: set.generation}, nil
	}
	for _, g := range generations {
		old, gerr := p.load(filepath.Join(p.dir, g))
		if gerr != nil {
			if !errors.Is(gerr, fs.ErrNotExist) {
				err = fmt.Errorf("%w; %s: %w", err, g, gerr)
			}
			continue
		}
		p.published, p.sums, p.generation = map[string][]byte{}, map[string]string{}, max(p.generation, old.generation)
		if _, err := p.Publish(old.files); err != nil {
			return Restored{}, fmt.Errorf("restoring %s: %w", g, err)
		}
		return Restored{old.files, p.generation, g, err}, nil
	}
	return Restored{}, err
}

// sweep removes temporary files that a killed process left.
func (p *Publisher) sweep() {
	entries, err := p.disk.ReadDir(p.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), ".tmp-") {
			_ = p.disk.Remove(filepath.Join(p.dir, e.Name()))
		}
	}
}

// write replaces one file outside the set, durably.
func (p *Publisher) write(name string, data []byte) error { return p.replace(name, data, false) }

// previous ends the name of the generation before.
const previous = ".previous"

// replace writes one file outside the set, durably; with keep what was there before stays under its name with previous added.
func (p *Publisher) replace(name string, data []byte, keep bool) error {
	t, err := p.disk.WriteTemp(p.dir, "."+name+".tmp-", data, 0o600, -1)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	path := filepath.Join(p.dir, name)
	if keep {
		err = p.keepPrevious(name)
	}
	if err == nil {
		err = p.disk.Rename(t, path)
	}
	if err != nil {
		_ = p.disk.Remove(t)
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := p.disk.SyncDir(p.dir); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// keepPrevious gives a file a second name. It keeps its own until the next one takes that over, so at every moment there is one.
func (p *Publisher) keepPrevious(name string) error {
	path, link := filepath.Join(p.dir, name), filepath.Join(p.dir, "."+name+".tmp-link")
	if err := p.disk.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.disk.Link(path, link); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the first
		}
		return err
	}
	err := p.disk.Rename(link, path+previous)
	_ = p.disk.Remove(link) // a rename keeps both names when they already are one file
	return err
}

// osDisk is the real file system.
type osDisk struct{}

func (osDisk) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (name string, err error) {
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if gid >= 0 {
		if err := f.Chown(-1, gid); err != nil {
			return "", err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

func (osDisk) Rename(from, to string) error               { return os.Rename(from, to) }
func (osDisk) Link(from, to string) error                 { return os.Link(from, to) }
func (osDisk) Mkdir(path string, mode fs.FileMode) error  { return os.Mkdir(path, mode) }
func (osDisk) Remove(path string) error                   { return os.Remove(path) }
func (osDisk) RemoveAll(path string) error                { return os.RemoveAll(path) }
func (osDisk) ReadFile(path string) ([]byte, error)       { return os.ReadFile(path) }
func (osDisk) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

func (osDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
