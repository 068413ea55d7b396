package discovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"signalbox"
)

// stateMagic opens every state file, followed by the sha256 of the sha256 of each line that follows the first.
const stateMagic = "signalbox-state 2 sha256="

// maxStateFile bounds what is read back, in bytes.
const maxStateFile = 512 << 20

// errNoState says that nothing usable is stored.
var errNoState = errors.New("no stored state")

// stored is what is kept of one source.
type stored struct {
	Source string `json:"source"`
	// Generation counts the states of the source that were served; 0 in a file of an earlier version.
	Generation uint64               `json:"generation"`
	At         time.Time            `json:"at"` // when the state was read
	Problems   []signalbox.Problem  `json:"problems,omitempty"`
	Services   []*signalbox.Service `json:"-"`
}

// store keeps the last good state of each source in a directory, in two generations. Each source has one user at a time.
// The zero dir keeps nothing.
type store struct {
	dir    string
	before func(step string) error // nil, or what a test does before each step of a write
}

func (s store) path(source string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, source)
	return filepath.Join(s.dir, "source-"+clean+".state")
}

// load returns the newest usable generation. Its error names every generation that was found and could not be used; it is
// errNoState when there was none at all. The state is valid whenever it is not nil.
func (s store) load(source string) (*stored, error) {
	if s.dir == "" {
		return nil, errNoState
	}
	var errs []error
	for _, path := range []string{s.path(source), s.path(source) + ".previous"} {
		st, err := readState(path)
		if err == nil {
			if st.Source == source {
				return st, errors.Join(errs...)
			}
			err = fmt.Errorf("it belongs to the source %q", st.Source)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("reading the state %s: %w", path, err))
		}
	}
	if errs == nil {
		return nil, errNoState
	}
	return nil, errors.Join(errs...)
}

func readState(path string) (*stored, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxStateFile {
		return nil, fmt.Errorf("larger than %d bytes", maxStateFile)
	}
	return decodeState(b)
}

func decodeState(b []byte) (*stored, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	sum, magic := strings.CutPrefix(string(head), stateMagic)
	if !ok || !magic {
		return nil, errors.New("not a state file of this version")
	}
	if sumOfLines(body) != sum {
		return nil, errors.New("checksum mismatch: the file is cut or damaged")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	st := &stored{}
	if err := dec.Decode(st); err != nil {
		return nil, fmt.Errorf("decoding its head: %w", err)
	}
	last := signalbox.ServiceID("")
	for {
		svc := &signalbox.Service{}
		if err := dec.Decode(svc); errors.Is(err, io.EOF) {
			return st, nil
		} else if err != nil {
			return nil, fmt.Errorf("decoding service %d: %w", len(st.Services), err)
		}
		if svc.ID <= last {
			return nil, fmt.Errorf("service %q is out of order", svc.ID)
		}
		last = svc.ID
		for _, e := range svc.Endpoints {
			if !e.Addr.IsValid() || e.Addr.Port() == 0 {
				return nil, fmt.Errorf("service %q has an endpoint without an address", svc.ID)
			}
		}
		st.Services = append(st.Services, svc)
	}
}

// encoder writes states, and remembers the lines of services between them: an unchanged service is encoded and summed up once.
type encoder struct {
	services []*signalbox.Service
	lines    []stateLine // lines[i] is services[i]'s
}

// stateLine is one line of a state file, its end included.
type stateLine struct {
	text []byte
	sum  [sha256.Size]byte
}

func newStateLine(v any) (stateLine, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return stateLine{}, err
	}
	b = append(b, '\n')
	return stateLine{b, sha256.Sum256(b)}, nil
}

// encode returns the file's bytes.
func (e *encoder) encode(st *stored) ([]byte, error) {
	head, err := newStateLine(st)
	if err != nil {
		return nil, fmt.Errorf("encoding the head of the state: %w", err)
	}
	size := len(stateMagic) + 2*sha256.Size + 1 + len(head.text)
	lines := make([]stateLine, len(st.Services))
	was := 0
	for i, svc := range st.Services {
		for was < len(e.services) && e.services[was] != svc && e.services[was].ID < svc.ID {
			was++
		}
		if was < len(e.services) && e.services[was] == svc {
			lines[i] = e.lines[was]
		} else if lines[i], err = newStateLine(svc); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", svc.ID, err)
		}
		size += len(lines[i].text)
	}
	e.services, e.lines = st.Services, lines
	sums := sha256.New()
	sums.Write(head.sum[:])
	for i := range lines {
		sums.Write(lines[i].sum[:])
	}
	out := make([]byte, 0, size)
	out = append(out, stateMagic...)
	out = append(hex.AppendEncode(out, sums.Sum(nil)), '\n')
	out = append(out, head.text...)
	for i := range lines {
		out = append(out, lines[i].text...)
	}
	return out, nil
}

// sumOfLines returns the sha256 of the sha256 of each line.
func sumOfLines(body []byte) string {
	sums := sha256.New()
	for line := range bytes.Lines(body) {
		sum := sha256.Sum256(line)
		sums.Write(sum[:])
	}
	return hex.EncodeToString(sums.Sum(nil))
}

// save replaces the state of a source, durably and atomically; the one before it becomes the previous generation.
func (s store) save(source string, b []byte) error {
	if err := s.trySave(s.path(source), b); err != nil {
		return fmt.Errorf("writing the state of %s: %w", source, err)
	}
	return nil
}

func (s store) trySave(path string, b []byte) error {
	if err := s.step("making the directory"); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, ".state-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := s.step("writing"); err != nil {
		return err
	}
	if _, err := tmp.Write(b); err != nil {
		return err
	}
	if err := s.step("syncing"); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := s.keepPrevious(path); err != nil {
		return err
	}
	if err := s.step("renaming"); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	if err := s.step("syncing the directory"); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	return s.step("nothing more")
}

// keepPrevious gives the current generation a second name. It keeps its own until the new one takes that over.
func (s store) keepPrevious(path string) error {
	link := path + ".link"
	os.Remove(link)
	if err := s.step("linking"); err != nil {
		return err
	}
	if err := os.Link(path, link); errors.Is(err, fs.ErrNotExist) {
		return nil // the first
	} else if err != nil {
		return err
	}
	if err := s.step("renaming the link"); err != nil {
		return err
	}
	if err := os.Rename(link, path+".previous"); err != nil {
		return err
	}
	os.Remove(link) // rename keeps both names when they already are one file
	return nil
}

// step says what comes next.
func (s store) step(what string) error {
	if s.before == nil {
		return nil
	}
	return s.before(what)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
