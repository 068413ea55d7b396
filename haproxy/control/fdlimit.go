package control

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reservedFDs are for listeners, logs, sockets, pipes and threads.
const reservedFDs = 200

// FDLimit returns how many descriptors a child process may open: the hard limit, because HAProxy raises its own soft limit.
func FDLimit() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("reading the file-descriptor limit: %w", err)
	}
	return l.Max, nil
}

// ListenerRoom returns how many ports may be bound at once within a limit of descriptors: half of them stay for connections.
func ListenerRoom(limit uint64) int { return int(max(int64(min(limit, 1<<31))-reservedFDs, 0) / 2) }

// CheckRoom returns how many servers' checks have a descriptor set aside within a limit, before it is known how many servers there will
// be: HAProxy complains at each start of a limit that its connections and checks together exceed.
func CheckRoom(limit uint64) int { return int(min(limit, 1<<31) / 16) }

// MaxConn returns the process-wide maxconn that fits a limit of descriptors: up to want (0: 50,000), at least 100. Each
// connection has two, each listener one, and HAProxy sets one aside for each server that it checks. The warning is "" when want fits.
func MaxConn(limit uint64, want, listeners, checked int) (maxconn int, warning string) {
	if want <= 0 {
		want = 50_000
	}
	room := (int64(min(limit, 1<<31)) - reservedFDs - int64(listeners) - int64(checked)) / 2
	if room >= int64(want) {
		return want, ""
	}
	maxconn = int(max(room, 100))
	return maxconn, fmt.Sprintf("maxconn is %d instead of %d: the limit is %d file descriptors, of which %d are for servers' checks",
		maxconn, want, limit, checked)
}
