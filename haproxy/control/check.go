package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"signalbox/haproxy"
)

// configName is the file that HAProxy is started with.
const configName = "haproxy.cfg"

// Rejection is one complaint of "haproxy -c" that makes a configuration unusable.
type Rejection struct {
	File    string // name within the set, "" if HAProxy named none
	Line    int    // from 1, 0 if HAProxy named none
	Message string
}

// String returns the rejection as compilers print it.
func (r Rejection) String() string {
	if r.File == "" {
		return r.Message
	}
	return fmt.Sprintf("%s:%d: %s", r.File, r.Line, r.Message)
}

// Verdict is what a check found. Without rejections the set is usable.
type Verdict struct {
	Rejections []Rejection
	Warnings   []string
	Took       time.Duration
	CPU        time.Duration // of the check's process
	Known      bool          // not run: an equal set was rejected before
}

// ErrNoVerdict says that a check led to none; nothing is known about the set.
var ErrNoVerdict = errors.New("the check came to no verdict")

// ErrCheckTime says so because the check did not end in time.
var ErrCheckTime = fmt.Errorf("%w: it did not end in time", ErrNoVerdict)

// Checker runs "haproxy -c". HAProxy runs Lua and reads files during a check, so as root it is run as an unprivileged user, with an
// empty environment. The files are handed over as memory files: that user can read them through its own descriptors, nobody else can
// see them, nothing stays behind, and the sockets and files of the running HAProxy are not touched.
type Checker struct {
	Binary  string        // "haproxy" if empty
	User    string        // whom to run as when root; "nobody" if empty
	Dir     string        // the directory whose files the set stands for; paths below it are replaced in the candidate
	Timeout time.Duration // 10 s if zero

	mu       sync.Mutex
	rejected []rejected // newest last, bounded
	dummy    []byte     // a certificate that says nothing, with its key
}

// standIn returns what a check as another user is shown in the place of a certificate and its key.
func (c *Checker) standIn() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dummy == nil {
		var err error
		if c.dummy, err = selfSigned("signalbox", time.Now(), time.Hour); err != nil {
			return nil, fmt.Errorf("making a certificate for the check: %w", err)
		}
	}
	return c.dummy, nil
}

type rejected struct {
	hash    [sha256.Size]byte
	verdict Verdict
}

const maxRejected = 32

// Check judges a set of files, of which one is haproxy.cfg. With low it runs at a low priority. A set that was rejected before is
// not run again. The error says that no verdict was reached.
func (c *Checker) Check(ctx context.Context, files []File, low bool) (Verdict, error) {
	sums := make(map[string]string, len(files))
	for _, f := range files {
		sums[f.Name] = fmt.Sprintf("%x", sha256.Sum256(f.Data))
	}
	hash := sha256.Sum256(fmt.Appendf(listing(sums), "%s\n", c.identity()))
	if v, ok := c.known(hash); ok {
		return v, nil
	}
	v, err := c.run(ctx, files, low)
	if err != nil {
		return Verdict{}, fmt.Errorf("checking the configuration: %w", err)
	}
	if len(v.Rejections) > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.rejected = append(c.rejected, rejected{hash, v}); len(c.rejected) > maxRejected {
			c.rejected = c.rejected[1:]
		}
	}
	return v, nil
}

// identity tells HAProxy's program from one that takes its place: another version may take what this one rejects.
func (c *Checker) identity() string {
	path, err := exec.LookPath(cmp.Or(c.Binary, "haproxy"))
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return path
	}
	return fmt.Sprint(path, " ", info.Size(), " ", info.ModTime().UnixNano())
}

func (c *Checker) known(hash [sha256.Size]byte) (Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rejected {
		if r.hash == hash {
			v := r.verdict
			v.Known = true
			return v, true
		}
	}
	return Verdict{}, false
}

// errUntried says that nothing is known about a certificate.
var errUntried = errors.New("the certificate could not be tried")

// TryCertificate asks HAProxy whether it loads a certificate and its key. Nothing but the operator's own file is read, so it is asked as
// the user that this program runs as.
func (c *Checker) TryCertificate(ctx context.Context, pem []byte) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()
	cmd := exec.CommandContext(ctx, cmp.Or(c.Binary, "haproxy"), "-c", "-f", fmt.Sprintf("/proc/self/fd/%d", firstFD))
	config := fmt.Sprintf("frontend try\n  mode tcp\n  timeout client 1s\n  bind 127.0.0.1:1 ssl crt /proc/self/fd/%d\n", firstFD+1)
	for i, data := range [][]byte{[]byte(config), pem} {
		f, err := memFile(fmt.Sprintf("try-%d", i))
		if err != nil {
			return fmt.Errorf("%w: %w", errUntried, err)
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			return fmt.Errorf("%w: %w", errUntried, err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env, cmd.Dir = []string{}, "/"
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("%w: %w", errUntried, err)
	}
	if r := parseCheck(string(out), nil).Rejections; len(r) > 0 {
		return fmt.Errorf("HAProxy says: %s", cut(r[0].Message, 300))
	}
	return fmt.Errorf("HAProxy does not load it: %s", cut(strings.TrimSpace(string(out)), 300))
}

// firstFD is the descriptor of the first of exec.Cmd.ExtraFiles in the child.
const firstFD = 3

func (c *Checker) run(ctx context.Context, files []File, low bool) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()

	cmd := exec.CommandContext(ctx, cmp.Or(c.Binary, "haproxy"), "-c")
	defer func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close()
		}
	}()
	names := map[string]string{}
	paths := make([]string, 0, 2*len(files))
	for i, f := range files {
		fd := fmt.Sprintf("/proc/self/fd/%d", firstFD+i)
		names[fd] = f.Name
		paths = append(paths, filepath.Join(c.Dir, f.Name), fd)
		if f.Name == configName {
			cmd.Args = append(cmd.Args, "-f", fd)
		}
	}
	if len(cmd.Args) < 3 {
		return Verdict{}, fmt.Errorf("no %s among the files", configName)
	}
	replace := strings.NewReplacer(longestFirst(paths)...)
	cred, err := c.credential()
	if err != nil {
		return Verdict{}, err
	}
	for _, f := range files {
		if _, secret := haproxy.CertificateIn(f.Name); secret && cred != nil {
			// Whoever else runs as that user could read the key of a process of his.
			if f.Data, err = c.standIn(); err != nil {
				return Verdict{}, err
			}
		}
		m, err := memFile(f.Name)
		if err != nil {
			return Verdict{}, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, m)
		if f.Name == configName || strings.HasSuffix(f.Name, ".list") { // which name other files
			_, err = replace.WriteString(m, string(f.Data))
		} else {
			_, err = m.Write(f.Data)
		}
		if err != nil {
			return Verdict{}, err
		}
	}
	out := &capped{max: 256 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Verdict{}, err
	}
	if low {
		_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 15)
	}
	err = cmd.Wait()
	v := parseCheck(out.String(), names)
	v.Took = time.Since(start)
	if used := cmd.ProcessState; used != nil {
		v.CPU = used.UserTime() + used.SystemTime()
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		v.Rejections = nil // alerts without a failure are warnings of HAProxy's own
		return v, nil
	case ctx.Err() != nil:
		return Verdict{}, fmt.Errorf("%w: %w", ErrCheckTime, ctx.Err())
	case !errors.As(err, &exit) || !exit.Exited():
		return Verdict{}, fmt.Errorf("%w: %w: %s", ErrNoVerdict, err, cut(out.String(), 500))
	}
	if len(v.Rejections) == 0 {
		v.Rejections = []Rejection{{Message: fmt.Sprintf("%v: %s", err, cut(strings.TrimSpace(out.String()), 500))}}
	}
	return v, nil
}

// credential returns whom to run as: nil, the own user, unless that is root.
func (c *Checker) credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	uid, gid, err := lookup(cmp.Or(c.User, "nobody"))
	if err != nil {
		return nil, err
	}
	if uid == 0 {
		return nil, errors.New("the user for checks must not be root")
	}
	return &syscall.Credential{Uid: uid, Gid: gid}, nil
}

func lookup(name string) (uid, gid uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	a, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	b, err := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(a), uint32(b), err
}

func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a memory file: %w", err)
	}
	if err := unix.Fchmod(fd, 0o444); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("making a memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// alertLine is a line of HAProxy's log: "[ALERT]    (123) : config : parsing [/x/haproxy.cfg:12] : …".
var (
	alertLine = regexp.MustCompile(`^\[(ALERT|WARNING)\]\s*(?:\S+\s+)?\(\d+\) : (.*)$`)
	fileLine  = regexp.MustCompile(`[\[('<]?(/proc/self/fd/\d+):(\d+)[\])'>]?`)
)

// parseCheck reads the output of a check. names leads from the paths that HAProxy saw to the names in the set.
func parseCheck(out string, names map[string]string) Verdict {
	var v Verdict
	for line := range strings.Lines(out) {
		m := alertLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		r := Rejection{Message: strings.TrimPrefix(m[2], "config : ")}
		if at := fileLine.FindStringSubmatchIndex(r.Message); at != nil {
			r.File = names[r.Message[at[2]:at[3]]]
			r.Line, _ = strconv.Atoi(r.Message[at[4]:at[5]])
			if r.File == "" {
				r.Line = 0
			}
		}
		for path, name := range names {
			r.Message = strings.ReplaceAll(r.Message, path+":", name+":")
			r.Message = strings.ReplaceAll(r.Message, path+"]", name+"]")
			r.Message = strings.ReplaceAll(r.Message, path+">", name+">")
			r.Message = strings.ReplaceAll(r.Message, path+"'", name+"'")
		}
		if m[1] == "WARNING" {
			v.Warnings = append(v.Warnings, r.String())
			continue
		}
		if r.File == "" && (strings.HasPrefix(r.Message, "Error(s) found in configuration file") ||
			strings.HasPrefix(r.Message, "Fatal errors found in configuration")) {
			continue
		}
		v.Rejections = append(v.Rejections, r)
	}
	return v
}

// capped keeps the first max bytes written to it.
type capped struct {
	max int
	b   bytes.Buffer
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.b.Len(); room > 0 {
		c.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (c *capped) String() string { return c.b.String() }

// longestFirst orders pairs for a strings.Replacer so that no name hides a longer one that begins with it.
func longestFirst(pairs []string) []string {
	two := make([][2]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		two = append(two, [2]string{pairs[i], pairs[i+1]})
	}
	slices.SortStableFunc(two, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	out := make([]string, 0, len(pairs))
	for _, p := range two {
		out = append(out, p[0], p[1])
	}
	return out
}
