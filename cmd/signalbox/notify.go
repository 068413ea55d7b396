package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// The states that systemd is told.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyAlive    = "WATCHDOG=1"
)

// notify tells systemd a state, or several on lines of their own: "STATUS=…" is what `systemctl status` shows.
// Without a systemd that listens it does nothing.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// A path that begins with @ is in the abstract namespace; package net reads it so.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // a socket takes a deadline
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	return nil
}

// watchdogInterval returns how often to tell systemd notifyAlive: half of what it waits. 0: it doesn't ask for it.
func watchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// alive tells systemd that the controller is up, and stays so.
func (c *controller) alive(ctx context.Context) {
	tell := func(state string) {
		if err := notify(state); err != nil {
			c.journal.WithError(err).Warn("systemd cannot be told")
		}
	}
	tell(notifyReady)
	defer tell(notifyStopping)
	every := watchdogInterval()
	if every == 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tell(notifyAlive)
		}
	}
}
