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

var versionLine = regexp.MustCompile(`(?m)^HAProxy version (\d+)\.(\d+)(?:\.(\d+))?\S*`)

// Version is a version of HAProxy. Patch is -1 before the first release of its branch.
type Version struct{ Major, Minor, Patch int }

// before reports whether v is older than another version.
func (v Version) before(major, minor, patch int) bool {
	return cmp.Or(cmp.Compare(v.Major, major), cmp.Compare(v.Minor, minor), cmp.Compare(v.Patch, patch)) < 0
}

// AddsServers reports whether servers that this version is given while it runs are known to do as those of the file do. Before 2.6.9
// one with a limit of connections takes none; from 3.2.6 on until 3.4 one that is enabled and disabled some times under "leastconn"
// stops HAProxy. No version is known to delete servers safely. The evidence is in docs/decisions/0012-servers-added-at-runtime.md.
func (v Version) AddsServers() bool {
	return !v.before(2, 6, 9) && (v.before(3, 2, 6) || !v.before(3, 4, 0)) && v.Patch >= 0
}

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
	patch := -1
	if m[3] != "" {
		patch, _ = strconv.Atoi(m[3])
	}
	v := Version{major, minor, patch}
	if major < OldestMajor || major == OldestMajor && minor < OldestMinor {
		return v, fmt.Errorf("%s is HAProxy %d.%d; %d.%d is the oldest that is supported", binary, major, minor, OldestMajor, OldestMinor)
	}
	return v, nil
}
