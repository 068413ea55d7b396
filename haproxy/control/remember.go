package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

const (
	rejectedName  = "rejected.json"
	rejectedMagic = "signalbox-rejected 1 sha256="
)

// seal returns a file whose first line is a magic word and the sha256 of the rest.
func seal(magic string, body []byte) []byte {
	return fmt.Appendf(nil, "%s%x\n%s\n", magic, sha256.Sum256(body), body)
}

// unseal is the reverse of seal. Whatever is not whole is an error.
func unseal(magic string, b []byte) ([]byte, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	sum, ours := strings.CutPrefix(string(head), magic)
	if !ours {
		return nil, errors.New("not a file of this version")
	}
	body, end := bytes.CutSuffix(body, []byte("\n"))
	if is := sha256.Sum256(body); !ok || !end || sum != hex.EncodeToString(is[:]) {
		return nil, fmt.Errorf("%w: it is cut or damaged", ErrTorn)
	}
	return body, nil
}

// remembered is a rejection as it is persisted.
type remembered struct {
	Hash       string      `json:"hash"` // of the files and of HAProxy's program
	Rejections []Rejection `json:"rejections"`
}

// remember returns the rejections that the Checker knows, to be persisted.
func (c *Checker) remember() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]remembered, 0, len(c.rejected))
	for _, r := range c.rejected {
		all = append(all, remembered{hex.EncodeToString(r.hash[:]), r.verdict.Rejections})
	}
	body, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encoding what was rejected: %w", err)
	}
	return seal(rejectedMagic, body), nil
}

// recall makes the Checker know what an earlier one remembered.
func (c *Checker) recall(b []byte) error {
	body, err := unseal(rejectedMagic, b)
	if err != nil {
		return err
	}
	var all []remembered
	if err := json.Unmarshal(body, &all); err != nil {
		return fmt.Errorf("decoding what was rejected: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range all[:min(len(all), maxRejected)] {
		r := rejected{verdict: Verdict{Rejections: m.Rejections}}
		hash, err := hex.DecodeString(m.Hash)
		if err == nil && len(m.Rejections) > 0 && copy(r.hash[:], hash) == len(hash) {
			c.rejected = append(c.rejected, r)
		}
	}
	return nil
}

// persistRejections keeps what was rejected for the next controller. What can't be kept costs it a check.
func (a *Applier) persistRejections() {
	b, err := a.check.remember()
	if err == nil {
		err = a.pub.write(rejectedName, b)
	}
	if err != nil {
		a.log.WithError(err).Warn("what was rejected is not kept")
	}
}

// recallRejections reads what an earlier controller has kept.
func (a *Applier) recallRejections() {
	b, err := a.pub.disk.ReadFile(filepath.Join(a.cfg.Dir, rejectedName))
	if err == nil {
		err = a.check.recall(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.WithError(err).Warn("what an earlier controller found rejected is not used: it is checked again")
	}
}
