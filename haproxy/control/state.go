package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// ReasonTemplate is the reason for a reload after the template changed between two runs of the controller.
const ReasonTemplate haproxy.Reason = "template changed"

const (
	stateName = "running.json"
	// markName marks that files of another shape than the persisted state's may be in place.
	markName = "reloading"
)

// stateMagic opens the file of the running state, followed by the sha256 of all that follows the first line.
const stateMagic = "signalbox-running 2 sha256="

// persisted is what survives the controller: the configuration whose shape HAProxy has loaded, with its tasks' slots, and the worker
// that is proven to have loaded it. Addresses and states may be older than what runs; they are read back from HAProxy.
type persisted struct {
	Generation uint64          `json:"generation"` // of the running state; it only grows
	Template   string          `json:"template"`
	Worker     Worker          `json:"worker"`
	ShapeAt    moment          `json:"shape_at"`
	Config     *haproxy.Config `json:"config"`
}

// encodeState returns the state's file.
func encodeState(p persisted) ([]byte, error) {
	c := *p.Config
	c.Problems = nil
	p.Config = &c
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding the running state: %w", err)
	}
	return seal(stateMagic, body), nil
}

// decodeState is the reverse of encodeState. Whatever is not whole is an error.
func decodeState(b []byte) (persisted, error) {
	var p persisted
	body, err := unseal(stateMagic, b)
	if err != nil {
		return p, fmt.Errorf("decoding the running state: %w", err)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return persisted{}, fmt.Errorf("decoding the running state: %w", err)
	}
	if p.Config == nil {
		return persisted{}, fmt.Errorf("decoding the running state: %w: no configuration", ErrTorn)
	}
	for _, b := range p.Config.Backends {
		if b == nil {
			return persisted{}, fmt.Errorf("decoding the running state: %w: an empty backend", ErrTorn)
		}
	}
	for _, l := range p.Config.Listeners {
		if l == nil {
			return persisted{}, fmt.Errorf("decoding the running state: %w: an empty listener", ErrTorn)
		}
	}
	return p, nil
}

// writeState persists p and then says that the files in place have its shape.
func (a *Applier) writeState(p persisted) error {
	b, err := encodeState(p)
	if err != nil {
		return err
	}
	if err := a.pub.replace(stateName, b, true); err != nil {
		return err
	}
	if err := a.pub.disk.Remove(filepath.Join(a.cfg.Dir, markName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing the running state: %w", err)
	}
	return nil
}

// Recover finds out what is there before Run starts: the last good files, restored if the published ones are torn, the persisted state, and
// what a running HAProxy says. It lets the Supervisor start HAProxy if there are good files. It returns the configuration that runs
// or would be started, for the slots of its tasks, or nil when nothing is known. The error says why something earlier is not used;
// the Applier works all the same.
func (a *Applier) Recover(ctx context.Context) (*haproxy.Config, error) {
	a.recovered = true
	a.recallRejections()
	restored, err := a.pub.Restore()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // the first start
		}
		return nil, err
	}
	a.fileGen = restored.Generation
	if restored.From != "" {
		a.log.WithError(restored.Why).WithFields(map[string]any{"from": restored.From, "generation": restored.Generation}).
			Error("the published files are not whole; the last good ones take their place")
	}
	if a.cfg.Supervisor != nil {
		a.cfg.Supervisor.Allow()
	}
	p, newer, err := a.loadState()
	if err != nil {
		return nil, err
	}
	if newer != nil {
		a.log.WithError(newer).WithField("generation", p.Generation).Error("the newest running state is not usable; the one before takes its place")
	}
	_, markErr := a.pub.disk.ReadFile(filepath.Join(a.cfg.Dir, markName))
	a.gen, a.shapeAt, a.worker, a.loaded = max(a.gen, signalbox.ResumeGeneration(p.Generation)), p.ShapeAt, p.Worker, p.Config
	a.stored = p.Config
	if errors.Is(markErr, fs.ErrNotExist) && restored.From == "" && newer == nil {
		a.onDisk = p.Config
	} else {
		a.shapeMoved = true // the files may have another shape: whoever loads them from now on is unknown until they are written anew
	}
	if p.Template != a.template {
		a.force(ReasonTemplate)
	}
	a.effective = p.Config // for the tasks of servers that are read back
	ok := a.attach(ctx)
	a.effective = nil
	if !ok {
		a.forced = nil
		if p.Template != a.template {
			a.force(ReasonTemplate)
		}
		a.connectAt = time.Time{}
		return p.Config, nil
	}
	a.askAllRest(ctx)
	a.log.WithField("pid", a.worker.PID).Info("found the running HAProxy; its state is read back")
	a.publishStatus()
	return a.running, nil
}

// loadState returns the newest usable running state. newer says what is wrong with the one after it, if there is one.
func (a *Applier) loadState() (p persisted, newer, err error) {
	var errs []error
	for _, name := range []string{stateName, stateName + previous} {
		b, err := a.pub.disk.ReadFile(filepath.Join(a.cfg.Dir, name))
		if err == nil {
			p, err = decodeState(b)
		}
		if err == nil {
			return p, errors.Join(errs...), nil
		}
		errs = append(errs, fmt.Errorf("loading %s: %w", name, err))
	}
	return persisted{}, nil, errors.Join(errs...)
}

// finish leaves the files and the persisted state as what runs.
func (a *Applier) finish() {
	for a.busy != idle {
		select {
		case r := <-a.done:
			a.ended(context.Background(), r)
		case <-time.After(5 * time.Second):
			return
		}
	}
	if a.running == nil {
		return
	}
	r := a.follow(a.running, a.persist(a.running), a.shapeMoved, a.keepDue)
	if r.err != nil {
		a.log.WithError(r.err).Error("the file does not say what runs")
	}
	a.settle(a.seq, context.Canceled)
}

// persist returns what to persist about a configuration of the loaded shape.
func (a *Applier) persist(c *haproxy.Config) *persisted {
	return &persisted{Generation: a.gen, Template: a.template, Worker: a.worker, ShapeAt: a.shapeAt, Config: c}
}
