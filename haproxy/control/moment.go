package control

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// moment is a point in time that a jump of the clock does not move, and that a process of the same boot can compare with its own.
type moment struct {
	Boot  string        `json:"boot"`  // which boot of the machine
	Since time.Duration `json:"since"` // of it, sleep included
}

// bootID names this boot of the machine, "" if nobody knows: nothing is surely earlier than anything then.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})

// thisMoment returns the moment that it is.
func thisMoment() moment {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return moment{}
	}
	return moment{bootID(), time.Duration(ts.Nano())}
}

// before reports whether m is surely earlier than o. Of two boots, that of o is the later one.
func (m moment) before(o moment) bool { return m.Boot != "" && (m.Boot != o.Boot || m.Since < o.Since) }

// minus returns the moment d earlier.
func (m moment) minus(d time.Duration) moment { return moment{m.Boot, m.Since - d} }
