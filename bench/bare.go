package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"signalbox/haproxy/control"
)

// bare is what HAProxy itself takes for the configuration of the controller: no controller could be faster that needs it.
type bare struct {
	Check    float64 `json:"checkSeconds"` // haproxy -c
	CheckCPU float64 `json:"checkCPUSeconds"`
	Reload   float64 `json:"reloadSeconds"` // from the command at the master socket until the new worker answers
}

// bareRounds is how often each is measured; the median counts.
const bareRounds = 5

// bare measures a copy of the controller's files, by a HAProxy that nobody controls.
func (g *rig) bare(ctx context.Context) (b bare, err error) {
	from, dir := filepath.Join(g.dir, "state", "haproxy"), filepath.Join(g.dir, "bare")
	addr, err := freeAddress()
	if err != nil {
		return b, err
	}
	if err := copyFiles(from, dir, strings.NewReplacer(from, dir, g.proxy, addr)); err != nil {
		return b, err
	}
	config := filepath.Join(dir, "haproxy.cfg")
	var checks, cpus []float64
	for range bareRounds {
		began := time.Now()
		check := exec.CommandContext(ctx, "haproxy", "-c", "-f", config)
		if out, err := check.CombinedOutput(); err != nil {
			return b, fmt.Errorf("haproxy -c: %w\n%s", err, out)
		}
		checks = append(checks, time.Since(began).Seconds())
		cpus = append(cpus, (check.ProcessState.UserTime() + check.ProcessState.SystemTime()).Seconds())
	}
	b.Check, _, _ = median(checks)
	b.CheckCPU, _, _ = median(cpus)

	master, stats := filepath.Join(dir, "master.sock"), filepath.Join(dir, "stats.sock")
	var said bytes.Buffer
	proxy := exec.CommandContext(context.WithoutCancel(ctx), "haproxy", "-W", "-S", master, "-f", config)
	proxy.Stdout, proxy.Stderr = &said, &said
	proxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := proxy.Start(); err != nil {
		return b, fmt.Errorf("starting HAProxy: %w", err)
	}
	defer func() {
		_ = proxy.Process.Signal(syscall.SIGTERM) // the master ends its workers
		_ = proxy.Wait()
	}()
	if err := answers(ctx, stats, func(int) bool { return true }); err != nil {
		return b, fmt.Errorf("starting HAProxy: %w\n%s", err, &said)
	}
	var reloads []float64
	for range bareRounds {
		// The master of the reload before may still be about to begin.
		for end := time.Now().Add(deadline); ; {
			if _, err := control.NewMaster(master).Proc(ctx); err == nil {
				break
			} else if time.Now().After(end) {
				return b, fmt.Errorf("the master does not answer: %w", err)
			}
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return b, err
			}
		}
		began := time.Now()
		proc, err := control.NewMaster(master).Reload(ctx)
		if err == nil {
			err = answers(ctx, stats, func(pid int) bool { return pid == proc.Workers[0].PID })
		}
		if err != nil {
			return b, fmt.Errorf("reloading HAProxy: %w", err)
		}
		reloads = append(reloads, time.Since(began).Seconds())
	}
	b.Reload, _, _ = median(reloads)
	return b, nil
}

// answers waits until a wanted worker answers at a runtime socket.
func answers(ctx context.Context, socket string, wanted func(pid int) bool) error {
	for end := time.Now().Add(deadline); ; {
		rt := control.NewRuntime(socket)
		info, err := rt.Connect(ctx)
		rt.Close()
		if err == nil && wanted(info.PID) {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("the worker does not answer"), err)
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// copyFiles copies what HAProxy reads, with words replaced in its configuration.
func copyFiles(from, to string, words *strings.Replacer) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if filepath.Ext(f.Name()) == ".cfg" {
			text = []byte(words.Replace(string(text)))
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// burst scales apps to so many tasks, spread over a span, and returns how long after the last of them a new task of each had answered.
func (g *rig) burst(ctx context.Context, apps, changes int, to int, span time.Duration) (time.Duration, error) {
	type answered struct {
		at  time.Time
		err error
	}
	all := make(chan answered, changes)
	var last time.Time
	for i := range changes {
		last = time.Now()
		go func() {
			_, at, err := g.scaled(ctx, i*7919%apps, to)
			all <- answered{at, err}
		}()
		if err := sleep(ctx, span/time.Duration(changes)); err != nil {
			return 0, err
		}
	}
	var end time.Time
	var errs []error
	for range changes {
		a := <-all
		errs = append(errs, a.err)
		if a.at.After(end) {
			end = a.at
		}
	}
	return end.Sub(last), errors.Join(errs...)
}
