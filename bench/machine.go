package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine says what a run ran on.
type machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Kernel  string `json:"kernel"`
	HAProxy string `json:"haproxy"`
	Go      string `json:"go"`
}

// String returns the machine on one line.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, HAProxy %s, %s", m.CPU, m.Cores, m.Kernel, m.HAProxy, m.Go)
}

func thisMachine(ctx context.Context) machine {
	m := machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if out, err := exec.CommandContext(ctx, "haproxy", "-v").Output(); err == nil {
		if words := strings.Fields(string(out)); len(words) > 2 {
			m.HAProxy = words[2]
		}
	}
	return m
}

// usage is what a process has used so far. CPU is its own, Waited that of its children that have ended.
type usage struct {
	CPU, Waited time.Duration
	RSS         int64
}

// tick is the unit of /proc's times, which Linux fixes for programs.
const tick = time.Second / 100

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("reading what a process used: %w", err)
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 22 {
		return usage{}, errors.New("reading what a process used: /proc says too little")
	}
	number := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n)
	}
	return usage{
		CPU: (number(11) + number(12)) * tick, Waited: (number(13) + number(14)) * tick,
		RSS: int64(number(21)) * int64(os.Getpagesize()),
	}, nil
}

// haproxies returns the processes named haproxy below a process.
func haproxies(pid int) []int {
	parents := map[int]int{}
	var named []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		end := bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		parents[id], _ = strconv.Atoi(fields[1])
		if bytes.Contains(stat[:end], []byte("(haproxy")) {
			named = append(named, id)
		}
	}
	var below []int
	for _, id := range named {
		for p := id; p > 1; p = parents[p] {
			if p == pid {
				below = append(below, id)
				break
			}
		}
	}
	return below
}

// haproxyUsage sums over the processes of HAProxy below a controller.
func haproxyUsage(controller int) (sum usage) {
	for _, pid := range haproxies(controller) {
		if u, err := usageOf(pid); err == nil {
			sum.CPU += u.CPU
			sum.RSS += u.RSS
		}
	}
	return sum
}
