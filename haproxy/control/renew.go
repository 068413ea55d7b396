package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"signalbox/haproxy"
)

// ReasonCertificate is the reason for a reload after a renewed certificate could not be put in over the runtime socket.
const ReasonCertificate haproxy.Reason = "certificate renewed"

// errCertificate says that HAProxy did not take a certificate.
var errCertificate = errors.New("HAProxy did not take the certificate")

// maxPayload is the longest command with a payload: HAProxy reads it into one buffer of 16 KiB, with room for what it adds.
const maxPayload = 15 << 10

// CertificateFingerprint asks the worker w for the SHA-1 of the certificate that it has from the file at path.
func (r *Runtime) CertificateFingerprint(ctx context.Context, w Worker, path string) (string, error) {
	command := "show ssl cert " + path
	answers, err := r.exchange(ctx, w, []string{command}, nil)
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
	for _, c := range []struct{ command, prefix, suffix string }{
		{set, "Transaction created for certificate " + path, "!"},
		{"commit ssl cert " + path + "\n", "Committing " + path, "Success!"},
	} {
		answer, err := r.once(ctx, c.command)
		if err != nil {
			return fmt.Errorf("putting a certificate in: %w", err)
		}
		if !strings.HasPrefix(answer, c.prefix) || !strings.HasSuffix(answer, c.suffix) {
			_, _ = r.once(ctx, "abort ssl cert "+path+"\n")
			head, _, _ := strings.Cut(c.command, "\n")
			return &UnexpectedError{head, answer}
		}
	}
	return nil
}

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

// renewDue reports whether the worker may have other certificates than it should. Files of another shape go first, and a try that
// failed is not repeated at once.
func (a *Applier) renewDue(now time.Time) bool {
	c := a.cfg.Certificates
	if c == nil || a.running == nil || len(a.reasons) > 0 || a.shapeMoved || now.Sub(a.certAt) < a.cfg.FileInterval {
		return false
	}
	return c.changes() != a.certChanges || now.Sub(a.certAt) >= a.cfg.AuditInterval
}

func (a *Applier) startRenew(ctx context.Context, now time.Time) {
	a.certAt = now
	config, worker, known, changes := a.running, a.worker, a.certs, a.cfg.Certificates.changes()
	a.job(renewing, func() jobResult {
		r := a.renew(ctx, config, worker, known)
		r.changes = changes
		return r
	})
}

// renew writes the files of what runs, with the certificates as they are now, and puts into the worker those that it does not have.
// known says which versions it is known to have.
func (a *Applier) renew(ctx context.Context, config *haproxy.Config, worker Worker, known map[string]uint64) jobResult {
	r := jobResult{config: config, worker: worker, certs: map[string]uint64{}}
	pairs := a.cfg.Certificates.pairs(config.Options)
	if len(pairs) == 0 {
		return r
	}
	if r.files, r.err = a.cfg.Render(config); r.err != nil {
		return r
	}
	if _, r.err = a.pub.Publish(r.files); r.err != nil {
		return r
	}
	r.publishAt, r.published = time.Now(), true
	rt := NewRuntime(a.cfg.StatsSocket)
	defer rt.Close()
	for _, p := range pairs {
		path := filepath.Join(a.cfg.Dir, haproxy.CertificateFile(p.Name))
		has, err := rt.CertificateFingerprint(ctx, worker, path)
		if err != nil {
			r.err = err
			return r
		}
		if was := known[p.Name]; has != p.Fingerprint || was != 0 && was != p.version {
			if r.err = rt.SetCertificate(ctx, path, p.PEM); r.err != nil {
				return r
			}
			if has, r.err = rt.CertificateFingerprint(ctx, worker, path); r.err != nil {
				return r
			}
			if has != p.Fingerprint {
				r.err = fmt.Errorf("%w: it shows %s", errCertificate, has)
				return r
			}
			r.renewed = append(r.renewed, p.Name)
		}
		r.certs[p.Name] = p.version
	}
	return r
}

// renewed takes in what became of the certificates. What HAProxy did not take over its socket it takes from the files.
func (a *Applier) renewed(r jobResult) {
	if r.published {
		a.wrote(r.config)
	}
	if a.running == nil || a.worker != r.worker {
		a.certAt = time.Time{}
		return
	}
	for _, name := range r.renewed {
		a.log.WithField("certificate", name).Info("put a renewed certificate in, without a reload")
	}
	if len(r.renewed) > 0 {
		a.tell(Step{Cause: CauseCertificate, Certificates: r.renewed, Done: true})
	}
	var unexpected *UnexpectedError
	switch {
	case r.err == nil:
		a.certs, a.certChanges = r.certs, r.changes
	case errors.As(r.err, &unexpected), errors.Is(r.err, errCertificate):
		a.log.WithError(r.err).Warn("a certificate comes with a reload")
		a.force(ReasonCertificate)
	case !r.published:
		a.onDisk = nil // some of the files may be new
		a.met.fileErrors.Inc()
		a.log.WithError(r.err).Error("the certificates can't be written")
	default:
		a.lost(r.err)
	}
}
