package control

import (
	"errors"
	"testing"
	"time"

	"signalbox/haproxy"
)

// Putting certificates in writes the files of what runs: they are no longer behind, and what it could not do is not tried at once again.
func TestRenewalIsAWriteOfTheFiles(t *testing.T) {
	certs := NewCertificates("", t.TempDir(), testLog(t))
	if err := certs.Read(time.Now()); err != nil {
		t.Fatal(err)
	}
	a := New(Settings{Dir: t.TempDir(), StatsSocket: "/none", Certificates: certs, Render: (&rig{}).render, Log: testLog(t)})
	worker := Worker{PID: 1, Started: 1}
	earlier, running := &haproxy.Config{}, &haproxy.Config{}
	reset := func() {
		a.worker, a.onDisk, a.certAt = worker, earlier, time.Now().Add(-a.cfg.FileInterval)
		a.setRunning(running)
	}
	reset()
	if !a.renewDue(time.Now()) {
		t.Error("a new certificate is not put in")
	}
	a.shapeMoved = true
	if a.renewDue(time.Now()) {
		t.Error("files of another shape are in place, and a renewal would hide that")
	}
	a.shapeMoved = false
	a.renewed(jobResult{config: running, worker: worker, published: true, changes: certs.changes()})
	if a.publishStatus(); a.Status().FileBehind != 0 || a.onDisk != running {
		t.Errorf("after a renewal that wrote what runs: %+v", a.Status())
	}
	a.certChanges = 0
	a.certAt = time.Now()
	if a.renewDue(time.Now()) {
		t.Error("a renewal that failed is repeated at once")
	}

	reset()
	a.renewed(jobResult{config: running, worker: worker, err: errors.New("disk full")})
	if a.onDisk != nil {
		t.Error("some files may be new, and nobody writes them again")
	}
	a.certAt = time.Now().Add(-a.cfg.FileInterval)
	if !a.renewDue(time.Now()) {
		t.Error("what could not be written is not tried again")
	}
	reset()
	a.renewed(jobResult{config: running, worker: worker, published: true, err: ErrOtherWorker})
	if a.running != nil {
		t.Error("another worker answers, and is not looked at")
	}
}
