package main

import (
	"bufio"
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
	"time"

	"signalbox"
	"signalbox/admin"
)

// registerFile is a register on disk: a line for what is known at first, and one for each change and each hold since, each with a checksum.
// It is written anew once what was appended outweighs the rest.
type registerFile struct {
	path    string
	lines   [][]byte // to be appended
	base    int      // bytes, when the file was last written anew
	added   int      // bytes since
	started bool     // the file is as this run has written it
}

// The bounds of a register's file, in bytes.
const (
	leastAdded  = 1 << 20   // before the file is written anew
	maxRegister = 512 << 20 // that is read
)

// record is one line.
type record struct {
	Key    uint64               `json:"key,omitempty"` // of Change; the last line with a key counts
	Change *admin.Change        `json:"change,omitempty"`
	Asked  time.Time            `json:"asked,omitzero"`
	Made   bool                 `json:"made,omitempty"`
	Undo   []undo               `json:"undo,omitempty"`
	After  []*signalbox.Service `json:"after,omitempty"` // definitions that hold from here on; one without an app is gone
	Holds  *[]signalbox.Hold    `json:"holds,omitempty"`
	Base   *baseRecord          `json:"base,omitempty"`
}

// baseRecord is the head of the first line.
type baseRecord struct {
	Running uint64 `json:"running"`
	Floor   uint64 `json:"floor"`
}

// change adds an entry as it is now; after are the definitions that came with it.
func (f *registerFile) change(e *entry, after []*signalbox.Service) {
	r := e.record()
	r.After = after
	if after == nil {
		r.Undo = nil // it stands in the first line of the entry
	}
	f.add(r)
}

// hold adds what is held; after are the definitions that are not in force yet.
func (f *registerFile) hold(holds []signalbox.Hold, after []*signalbox.Service) {
	all := append([]signalbox.Hold{}, holds...) // none is said too
	f.add(record{Holds: &all, After: after})
}

func (f *registerFile) add(r record) {
	if f.path == "" {
		return
	}
	if line, err := encodeRecord(r); err == nil { // plain values: it does not fail
		f.lines = append(f.lines, line)
	}
}

// record returns the line of an entry.
func (e *entry) record() record {
	return record{Key: e.key, Change: &e.Change, Asked: e.asked, Made: e.made, Undo: e.undo}
}

// records returns all that is known. The caller holds the lock.
func (r *register) records() []record {
	out := []record{{Base: &baseRecord{Running: r.running, Floor: r.floor}, Holds: &r.holds, After: services(r.defs)}}
	for _, e := range r.entries {
		out = append(out, e.record())
	}
	return out
}

// encodeRecord returns a line: the checksum of its JSON, a blank, and that.
func encodeRecord(r record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a line of the register: %w", err)
	}
	return fmt.Appendf(nil, "%s %s\n", lineSum(body), body), nil
}

func lineSum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// write appends what was added, durably, or writes all anew. After an error the next one writes all.
func (f *registerFile) write(all func() []record) error {
	if f.path == "" || len(f.lines) == 0 {
		return nil
	}
	text := bytes.Join(f.lines, nil)
	f.lines = nil
	if !f.started || f.added+len(text) > max(leastAdded, f.base) {
		return f.rewrite(all())
	}
	f.started = false // until it is certain
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	f.started = true
	f.added += len(text)
	return nil
}

// rewrite replaces the file, durably and atomically.
func (f *registerFile) rewrite(all []record) error {
	size := 0
	err := replaceFile(f.path, 0o600, func(to io.Writer) error {
		w := bufio.NewWriterSize(to, 1<<20)
		for _, r := range all {
			line, err := encodeRecord(r)
			if err != nil {
				return err
			}
			size += len(line)
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return w.Flush()
	})
	if err != nil {
		return err
	}
	f.base, f.added, f.started = size, 0, true
	return nil
}

// load takes in what an earlier run has written. A last line that is torn, as a crash leaves it, is passed over; the error is about
// anything else, and what stands before it counts.
func (r *register) load() error {
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(r.file.path), halfWritten)); err == nil {
		for _, path := range left {
			os.Remove(path)
		}
	}
	file, err := os.Open(r.file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the register: %w", err)
	}
	defer file.Close()
	in := bufio.NewReaderSize(io.LimitReader(file, maxRegister), 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is left is torn
		}
		if err != nil {
			return fmt.Errorf("reading the register: %w", err)
		}
		sum, body, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		var rec record
		if string(sum) != lineSum(body) {
			return fmt.Errorf("reading the register: line %d of %s is damaged", n, r.file.path)
		}
		if err := json.Unmarshal(body, &rec); err != nil {
			return fmt.Errorf("reading the register: line %d of %s: %w", n, r.file.path, err)
		}
		r.take(rec)
	}
}

// take takes one line in.
func (r *register) take(rec record) {
	if rec.Base != nil {
		r.running, r.floor = rec.Base.Running, rec.Base.Floor
	}
	if len(rec.After) > 0 || r.defs == nil {
		r.defs = defined(r.defs, rec.After)
	}
	if rec.Holds != nil {
		r.holds = *rec.Holds
	}
	if rec.Change == nil {
		return
	}
	r.key = max(r.key, rec.Key)
	r.running = max(r.running, rec.Change.Generation)
	e := &entry{Change: *rec.Change, key: rec.Key, asked: rec.Asked, made: rec.Made, undo: rec.Undo, logged: true}
	for i, old := range r.entries {
		if old.key == e.key {
			e.undo = old.undo
			r.entries[i] = e
			return
		}
	}
	r.entries = append(r.entries, e)
	r.bound()
}
