package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"signalbox/metrics"
)

// receiveVariable makes the program a receiver of logs in the place of a benchmark.
const receiveVariable = "SIGNALBOX_BENCH_RECEIVE"

// receiveIfAsked does not return in a process that is started to be a receiver.
func receiveIfAsked() {
	at := os.Getenv(receiveVariable)
	if at == "" {
		return
	}
	if err := receive(at); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(4)
	}
	os.Exit(0)
}

// receive takes logs at an address, "ring:/path" or "udp:127.0.0.1:5140", until SIGTERM, and prints the account.
func receive(at string) error {
	agg := metrics.NewAggregator(metrics.AggregatorConfig{})
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg := metrics.ReceiverConfig{Path: filepath.Join(dir, "log.sock"), Consumer: agg, Mode: 0o666}
	kind, address, _ := strings.Cut(at, ":")
	if kind == "ring" {
		cfg.Path = address
	} else {
		cfg.Foreign = []metrics.Intake{{Network: kind, Address: address}}
	}
	r, err := metrics.Listen(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println("ready")
	if err := r.Run(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(agg.Loss())
}

// child is a process whose CPU is counted.
type child struct {
	cmd *exec.Cmd
	out *os.File
}

func startReceiver(ctx context.Context, dir, at string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), receiveVariable+"="+at)
	return startChild(cmd, filepath.Join(dir, fmt.Sprintf("receiver-%d", rand.Uint32())), func(said string) bool { return strings.HasPrefix(said, "ready\n") })
}

func startChild(cmd *exec.Cmd, log string, ready func(string) bool) (*child, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	c := &child{cmd, out}
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		said, err := os.ReadFile(log)
		if err == nil && ready(string(said)) {
			return c, nil
		}
		if time.Now().After(end) {
			_, _ = c.end()
			return nil, fmt.Errorf("%s is not ready: %s", cmd.Path, said)
		}
	}
}

// end ends the process, and returns what it has printed.
func (c *child) end() (string, error) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	err := c.cmd.Wait()
	said, readErr := os.ReadFile(c.out.Name())
	return string(said), errors.Join(err, readErr, c.out.Close())
}

// account ends a receiver, and returns what it has counted and knows to be lost.
func (c *child) account() (l metrics.Loss, err error) {
	said, err := c.end()
	if err != nil {
		return l, fmt.Errorf("%w: %s", err, said)
	}
	return l, json.Unmarshal([]byte(strings.TrimPrefix(said, "ready\n")), &l)
}
