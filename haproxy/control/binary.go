package control

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// OldestMajor and OldestMinor are the oldest version of HAProxy that is supported, Debian 12's.
const (
	OldestMajor = 2
	OldestMinor = 6
)

var versionLine = regexp.MustCompile(`(?m)^HAProxy version (\d+)\.(\d+)\S*`)

// Version is a version of HAProxy.
type Version struct{ Major, Minor int }

// SendsRings reports whether this version sends a ring to a unix socket. From 3.3 on HAProxy takes a ring's server for one of a
// backend of mode log, which has an IP address.
func (v Version) SendsRings() bool { return v.Major < 3 || v.Major == 3 && v.Minor < 3 }

// CheckBinary asks a HAProxy program ("haproxy" if empty) for its version, and refuses one that is missing, does not answer within
// five seconds, or is too old.
func CheckBinary(ctx context.Context, binary string) (Version, error) {
	binary = cmp.Or(binary, "haproxy")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-v")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return Version{}, fmt.Errorf("asking %s for its version: %w", binary, err)
	}
	return checkVersion(binary, string(out))
}

func checkVersion(binary, output string) (Version, error) {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		return Version{}, fmt.Errorf("asking %s for its version: it answers %q, which is not HAProxy's way", binary, cut(output, 100))
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	v := Version{major, minor}
	if major < OldestMajor || major == OldestMajor && minor < OldestMinor {
		return v, fmt.Errorf("%s is HAProxy %d.%d; %d.%d is the oldest that is supported", binary, major, minor, OldestMajor, OldestMinor)
	}
	return v, nil
}
