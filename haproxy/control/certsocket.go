package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"signalbox/haproxy"
)

// errCertificate says that HAProxy did not take a certificate, or its line of the list.
var errCertificate = errors.New("HAProxy did not take the certificate")

// errOrder says that of several certificates for a name another one would come first than in the file: HAProxy puts a line that it is
// told of, and a certificate that is renewed, behind the others.
var errOrder = errors.New("which certificate comes first can only be said in the file")

// maxPayload is the longest command with a payload: HAProxy reads it into one buffer of 16 KiB, with room for what it adds. Of more 2.6
// keeps a part and says nothing.
const maxPayload = 15 << 10

// CertificateFingerprint asks the worker w for the SHA-1 of the certificate that it has from the file at path.
func (r *Runtime) CertificateFingerprint(ctx context.Context, w Worker, path string) (string, error) {
	command := "show ssl cert " + path
	answers, err := r.show(ctx, w, command)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(answers[0]) {
		if sum, ok := strings.CutPrefix(line, "SHA1 FingerPrint: "); ok {
			return strings.TrimSpace(sum), nil
		}
	}
	return "", &UnexpectedError{command, answers[0]}
}

// SetCertificate replaces the certificate that a worker has from the file at path. Connections that stand are not touched. It does
// not write the file.
func (r *Runtime) SetCertificate(ctx context.Context, path string, pem []byte) error {
	set := "set ssl cert " + path + " <<\n" + string(pem) + "\n"
	if len(set) > maxPayload {
		return fmt.Errorf("%w: with its chain it has %d bytes, more than fit a command", errCertificate, len(pem))
	}
	err := r.say(ctx, set, "Transaction created for certificate "+path, "!")
	if err == nil {
		err = r.say(ctx, "commit ssl cert "+path+"\n", "Committing "+path, "Success!")
	}
	if err != nil {
		_, _ = r.once(ctx, "abort ssl cert "+path+"\n")
	}
	return err
}

// NewCertificate gives a worker a certificate under the path of a file that it does not know. No name leads to it.
func (r *Runtime) NewCertificate(ctx context.Context, path string, pem []byte) error {
	if err := r.say(ctx, "new ssl cert "+path+"\n", "New empty certificate store '"+path, "'!"); err != nil {
		return err
	}
	err := r.SetCertificate(ctx, path, pem)
	if err != nil {
		_, _ = r.once(ctx, "del ssl cert "+path+"\n")
	}
	return err
}

// DeleteCertificate takes a certificate from a worker, which no line of a list may name any more.
func (r *Runtime) DeleteCertificate(ctx context.Context, path string) error {
	return r.say(ctx, "del ssl cert "+path+"\n", "Certificate '"+path, "' deleted!")
}

// AddCertificateLine adds a line to a list of certificates, behind the others.
func (r *Runtime) AddCertificateLine(ctx context.Context, list string, l haproxy.CertificateLine) error {
	add := "add ssl crt-list " + list + " <<\n" + l.String() + "\n\n"
	if len(add) > maxPayload {
		return fmt.Errorf("%w: its names have %d bytes, more than fit a command", errCertificate, len(add))
	}
	return r.say(ctx, add, "Inserting certificate '"+l.File+"' in crt-list '"+list+"'.", "\nSuccess!")
}

// DeleteCertificateLine takes a line from a list of certificates.
func (r *Runtime) DeleteCertificateLine(ctx context.Context, list string, e CertificateEntry) error {
	return r.say(ctx, fmt.Sprintf("del ssl crt-list %s %s:%d\n", list, e.File, e.Number), "Entry '"+e.File, "' deleted in crtlist '"+list+"'!")
}

// say sends a command on a connection of its own, and expects an answer that begins and ends so.
func (r *Runtime) say(ctx context.Context, command, begin, end string) error {
	var answer string
	err := whileLocked(ctx, func() (again bool, err error) {
		answer, err = r.once(ctx, command)
		return locked(answer), err
	})
	switch {
	case err != nil:
		return fmt.Errorf("changing HAProxy's certificates: %w", err)
	case !strings.HasPrefix(answer, begin) || !strings.HasSuffix(answer, end):
		head, _, _ := strings.Cut(command, "\n")
		return &UnexpectedError{head, answer}
	}
	return nil
}

// show asks the worker w about its certificates.
func (r *Runtime) show(ctx context.Context, w Worker, commands ...string) (answers []string, err error) {
	err = whileLocked(ctx, func() (again bool, err error) {
		answers, err = r.exchange(ctx, w, commands, nil)
		return slices.ContainsFunc(answers, locked), err
	})
	return answers, err
}

// locked reports whether HAProxy refuses a command because another one has to do with certificates at that moment, if only to show them.
func locked(answer string) bool {
	return strings.Contains(answer, "Operations on certificates are currently locked")
}

// whileLocked does something until HAProxy has no reason any more to have it done again, or for patienceWithLock.
func whileLocked(ctx context.Context, do func() (again bool, err error)) error {
	for end := time.Now().Add(patienceWithLock); ; {
		again, err := do()
		if err != nil || !again || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// patienceWithLock is how long HAProxy may be busy with certificates for somebody else. A reload frees it.
const patienceWithLock = 2 * time.Second

// once sends a command on a connection of its own and returns all that comes back. With a prompt, HAProxy would add to the answer for
// each line of a payload.
func (r *Runtime) once(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	return strings.Trim(string(answer), "\n"), err
}
