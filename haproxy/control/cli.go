package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// commandTimeout bounds one exchange with a HAProxy socket, connecting included.
const commandTimeout = 2 * time.Second

// maxCommand is the longest command line sent. HAProxy takes a line that fits its buffer (16 kB by default).
const maxCommand = 8 << 10

// maxAnswer bounds one answer. A dump of 100,000 servers has about 12 MB.
const maxAnswer = 64 << 20

// window bounds how much is sent before the answers are read. Without it both sides could wait for the other to read.
const (
	windowCommands = 64
	windowBytes    = 8 << 10
)

// ErrCommand is the error of a command that must not be sent.
var ErrCommand = errors.New("not a single runtime command")

// validCommand refuses what HAProxy would not read as exactly one command. A semicolon or a newline separates commands, "<<" opens
// a payload, a NUL ends the line, a backslash escapes.
func validCommand(s string) error {
	switch {
	case s == "" || strings.TrimSpace(s) == "":
		return fmt.Errorf("%w: empty", ErrCommand)
	case len(s) > maxCommand:
		return fmt.Errorf("%w: %d bytes", ErrCommand, len(s))
	case strings.Contains(s, "<<"):
		return fmt.Errorf("%w: %q opens a payload", ErrCommand, s)
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == ';' || c == '\\' {
			return fmt.Errorf("%w: %q has the byte %#02x", ErrCommand, s, c)
		}
	}
	return nil
}

// prompt recognises the end of an answer.
type prompt func(buf []byte) (end, next int)

// workerPrompt finds the "\n> " that ends an answer of a worker. No line of an answer begins with "> ".
func workerPrompt(buf []byte) (end, next int) {
	i := bytes.Index(buf, []byte("\n> "))
	if i < 0 {
		return -1, 0
	}
	return i, i + 3
}

// masterPrompt finds "master> " or, after a reload that failed, "master[ReloadFailed]> ", at the start of a line.
func masterPrompt(buf []byte) (end, next int) {
	for _, p := range []string{"master> ", "master[ReloadFailed]> "} {
		if bytes.HasPrefix(buf, []byte(p)) {
			return 0, len(p)
		}
		if i := bytes.Index(buf, []byte("\n"+p)); i >= 0 {
			return i, i + 1 + len(p)
		}
	}
	return -1, 0
}

// cli is one interactive connection to a HAProxy socket. Each answer ends with a prompt, so answers match commands exactly.
type cli struct {
	conn   net.Conn
	prompt prompt
	buf    []byte // what was read and not yet taken
	read   []byte // space for one read
	most   int    // the longest answer so far, in bytes
}

// shortAnswer is for how much there is always room. A longer answer gets that of the longest one before at once, so that a dump of all
// servers is not copied again and again.
const shortAnswer = 64 << 10

// dialCLI connects to a HAProxy socket and turns its prompt on.
func dialCLI(ctx context.Context, path string, p prompt) (*cli, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &cli{conn: conn, prompt: p, read: make([]byte, 16<<10)}
	if err := c.deadline(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := io.WriteString(conn, "prompt\n"); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := c.answer(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("waiting for the prompt: %w", err)
	}
	return c, nil
}

func (c *cli) deadline(ctx context.Context) error {
	t, ok := ctx.Deadline()
	if !ok {
		t = time.Now().Add(commandTimeout)
	}
	return c.conn.SetDeadline(t)
}

// do sends commands in order and returns their answers, trimmed of the newlines around them. On an error the answers that
// arrived before it are returned with it, and the connection can't be used again.
func (c *cli) do(ctx context.Context, commands ...string) ([]string, error) {
	return c.doWhile(ctx, commands, func(string, string) bool { return true })
}

// doWhile is do until an answer is not good. A few commands behind the one that it answers may be under way then; there is an answer
// for each that was sent.
func (c *cli) doWhile(ctx context.Context, commands []string, good func(command, answer string) bool) ([]string, error) {
	answers := make([]string, 0, len(commands))
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer c.shrink()
	for len(commands) > 0 {
		if err := ctx.Err(); err != nil {
			return answers, err
		}
		n, size := 0, 0
		var b strings.Builder
		for n < len(commands) && n < windowCommands && (n == 0 || size+len(commands[n]) < windowBytes) {
			b.WriteString(commands[n])
			b.WriteByte('\n')
			size += len(commands[n]) + 1
			n++
		}
		if err := c.deadline(ctx); err != nil {
			return answers, err
		}
		if _, err := io.WriteString(c.conn, b.String()); err != nil {
			return answers, fmt.Errorf("sending %q: %w", commands[0], err)
		}
		all := true
		for i := range n {
			a, err := c.answer()
			if err != nil {
				return answers, fmt.Errorf("reading the answer to %q: %w", commands[i], err)
			}
			answers = append(answers, a)
			all = all && good(commands[i], a)
		}
		if !all {
			return answers, nil
		}
		commands = commands[n:]
	}
	return answers, nil
}

func (c *cli) answer() (string, error) {
	scanned := 0
	for {
		// A prompt may straddle two reads; its longest form has 23 bytes.
		if end, next := c.prompt(c.buf[scanned:]); end >= 0 {
			a := strings.Trim(string(c.buf[:scanned+end]), "\n")
			c.most = max(c.most, scanned+next)
			c.buf = append(c.buf[:0], c.buf[scanned+next:]...)
			return a, nil
		}
		scanned = max(0, len(c.buf)-23)
		for scanned > 0 && c.buf[scanned-1] != '\n' && c.buf[scanned] != '\n' {
			scanned-- // keep whole lines, so that the start of the slice is the start of a line
		}
		if len(c.buf) > maxAnswer {
			return "", fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		if len(c.buf) > shortAnswer && cap(c.buf) < c.most {
			c.buf = slices.Grow(c.buf, c.most+c.most/8-len(c.buf))
		}
		n, err := c.conn.Read(c.read)
		c.buf = append(c.buf, c.read[:n]...)
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// shrink gives the room of long answers back.
func (c *cli) shrink() {
	if cap(c.buf) > shortAnswer {
		c.buf = append([]byte(nil), c.buf...)
	}
}

// alive reports whether the peer still holds the connection, without a command.
func (c *cli) alive() bool {
	u, ok := c.conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	ok = true
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = n > 0 || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return ok && err == nil
}

func (c *cli) close() { _ = c.conn.Close() }
