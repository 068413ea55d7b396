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

// CheckBinary asks a HAProxy program ("haproxy" if empty) for its version, and refuses one that is missing, does not answer within
// five seconds, or is too old.
func CheckBinary(ctx context.Context, binary string) error {
	binary = cmp.Or(binary, "haproxy")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-v")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("asking %s for its version: %w", binary, err)
	}
	return checkVersion(binary, string(out))
}

func checkVersion(binary, output string) error {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		return fmt.Errorf("asking %s for its version: it answers %q, which is not HAProxy's way", binary, cut(output, 100))
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < OldestMajor || major == OldestMajor && minor < OldestMinor {
		return fmt.Errorf("%s is HAProxy %d.%d; %d.%d is the oldest that is supported", binary, major, minor, OldestMajor, OldestMinor)
	}
	return nil
}
