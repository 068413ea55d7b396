package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The short form of the benchmark: no request fails while tasks, hosts and weights change, apps are deployed and HAProxy reloads; and the
// same load does find the failures of a naive controller.
func TestNoRequestFailsWhileAllChanges(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "signalbox")
	build := exec.Command("go", "build", "-o", binary, "../cmd/signalbox")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	b := churnBench{
		bench: bench{binary: binary, progress: t.Output()}, changes: 500, reloads: 30, deployments: 5, perSecond: 12,
		rate: 300, kept: 60, sockets: 40, life: 5 * time.Second, linger: 10 * time.Second, naiveReloads: 2000, log: filepath.Join(t.ArtifactDir(), "controller.log"),
	}
	r := churnResults{Machine: thisMachine(t.Context())}
	var err error
	r.churnResult, r.Control, err = b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.print(t.Output()); err != nil {
		t.Fatal(err)
	}
	if r.Failed > 0 {
		t.Errorf("%d requests and web sockets failed", r.Failed)
	}
	if r.Changes < b.changes || r.Reloads < b.reloads || r.Deployments != b.deployments || r.Sockets.Messages == 0 || r.New.Sent == 0 || r.Kept.Sent == 0 {
		t.Errorf("not all of it was done: %+v", r.churnResult)
	}
}
