package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"signalbox/haproxy"
)

// ReasonCertificate is the reason for a reload after a certificate, or a name that leads to one, could not be changed over the runtime
// socket.
const ReasonCertificate haproxy.Reason = "certificate refused"

// knownCertificates are what a worker is known to have.
type knownCertificates struct {
	versions map[string]uint64 // by certificate
	lines    []string          // of the list
}

// renewDue reports whether the worker may have other certificates than it should, or others for a name. Files of another shape go
// first, and a try that failed is not repeated at once, nor what HAProxy refused before the reload.
func (a *Applier) renewDue(now time.Time) bool {
	c := a.cfg.Certificates
	if c == nil || a.running == nil || slices.Contains(a.forced, ReasonCertificate) || slices.Contains(a.forced, haproxy.CertificatesChanged) || a.shapeMoved {
		return false
	}
	if a.certFor != nil && a.certFor != a.running && !a.running.SameCertificates(a.certFor) {
		return true
	}
	return now.Sub(a.certAt) >= a.cfg.FileInterval && (c.changes() != a.certChanges || now.Sub(a.certAt) >= a.cfg.AuditInterval)
}

func (a *Applier) startRenew(ctx context.Context, now time.Time) {
	a.certAt, a.certFor = now, a.running
	config, worker, known, changes, early := a.running, a.worker, a.certs, a.cfg.Certificates.changes(), a.effective == nil
	a.job(renewing, func() jobResult {
		r := a.renew(ctx, config, worker, known, early)
		r.changes = changes
		return r
	})
}

// renew writes the files of what runs, with the certificates as they are now, and gives the worker those that it does not have, and
// the names for which they answer. known says what it is known to have: anything else is somebody else's doing. early says that nothing is
// wanted yet, and config is what an earlier run has written down: HAProxy may have been given more before that run was killed, which stays.
func (a *Applier) renew(ctx context.Context, config *haproxy.Config, worker Worker, known knownCertificates, early bool) jobResult {
	r := jobResult{config: config, worker: worker, certs: knownCertificates{versions: map[string]uint64{}}}
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
	r.publishAt, r.published = thisMoment(), true
	rt := NewRuntime(a.cfg.StatsSocket)
	defer rt.Close()
	j := renewal{rt: rt, worker: worker, list: config.Options.CertificateListPath(), dir: a.cfg.Dir, known: known, early: early, result: &r}
	r.err = j.run(ctx, config, pairs)
	return r
}

// renewal is one comparison of a worker's certificates with what they should be.
type renewal struct {
	rt        *Runtime
	worker    Worker
	list, dir string
	known     knownCertificates
	early     bool // nothing is taken away
	result    *jobResult
}

func (j *renewal) run(ctx context.Context, config *haproxy.Config, pairs []heldCertificate) error {
	answers, err := j.rt.show(ctx, j.worker, "show ssl crt-list", "show ssl cert")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(answers[0]), j.list) {
		return nil // nothing listens for TLS
	}
	held, begun, err := ParseCertificateFiles(answers[1])
	if err != nil {
		return &UnexpectedError{"show ssl cert", answers[1]}
	}
	for _, path := range begun { // by somebody who will not end it, and until then nobody can change another one
		if err := j.rt.say(ctx, "abort ssl cert "+path+"\n", "Transaction aborted for certificate '"+path, "'!"); err != nil {
			return err
		}
		j.differs("certificate", path+" was being changed by somebody else")
	}
	entries, err := j.entries(ctx)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		path := filepath.Join(j.dir, haproxy.CertificateFile(p.Name))
		if err := j.certificate(ctx, p, path, slices.Contains(held, path), entries); err != nil {
			return err
		}
		held = slices.DeleteFunc(held, func(h string) bool { return h == path })
	}
	if err := j.lines(ctx, config.CertificateLines(), entries); err != nil {
		return err
	}
	for _, path := range held {
		if j.early {
			break
		}
		if _, ok := haproxy.CertificateIn(filepath.Base(path)); !ok || filepath.Dir(path) != j.dir {
			continue
		}
		if err := j.rt.DeleteCertificate(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// certificate makes sure that the worker has one certificate. entries are its list.
func (j *renewal) certificate(ctx context.Context, p heldCertificate, path string, held bool, entries []CertificateEntry) error {
	was := j.known.versions[p.Name]
	if !held {
		if was != 0 {
			j.differs("certificate", p.Name+" is missing")
		}
		if err := j.rt.NewCertificate(ctx, path, p.PEM); err != nil {
			return err
		}
	}
	has, err := j.rt.CertificateFingerprint(ctx, j.worker, path)
	if err != nil {
		return err
	}
	if held && (has != p.Fingerprint || was != 0 && was != p.version) {
		if was == p.version {
			j.differs("certificate", p.Name+" is another one: "+has+" instead of "+p.Fingerprint)
		}
		if comesFirst(path, entries) { // HAProxy would ask it last from now on
			return fmt.Errorf("%w: %s is new, and comes first for a name that has several", errOrder, p.Name)
		}
		if err := j.rt.SetCertificate(ctx, path, p.PEM); err != nil {
			return err
		}
		if has, err = j.rt.CertificateFingerprint(ctx, j.worker, path); err != nil {
			return err
		}
		j.result.renewed = append(j.result.renewed, p.Name)
	}
	if has != p.Fingerprint {
		return fmt.Errorf("%w: it shows %s", errCertificate, has)
	}
	j.result.certs.versions[p.Name] = p.version
	return nil
}

// lines brings the list of certificates from entries to what it should be. What is new comes first: no name is without a certificate
// meanwhile.
func (j *renewal) lines(ctx context.Context, want []haproxy.CertificateLine, entries []CertificateEntry) error {
	texts := make([]string, len(want))
	for i, l := range want {
		texts[i] = l.String()
	}
	if j.known.lines != nil {
		j.compareLines(entries)
	}
	final := make([]string, 0, len(want))
	var extra []CertificateEntry
	lacks := slices.Clone(want)
	for _, e := range entries {
		if i := slices.IndexFunc(lacks, func(l haproxy.CertificateLine) bool { return l.String() == e.Text }); i >= 0 {
			lacks, final = slices.Delete(lacks, i, i+1), append(final, e.Text)
		} else {
			extra = append(extra, e)
		}
	}
	for _, l := range lacks {
		final = append(final, l.String())
	}
	if !sameOrder(final, texts) {
		return fmt.Errorf("%w: a name has several", errOrder)
	}
	for _, l := range lacks {
		if err := j.rt.AddCertificateLine(ctx, j.list, l); err != nil {
			return err
		}
	}
	if j.early && len(extra) > 0 {
		return nil // and what the list has is not known to be all that it should
	}
	for _, e := range extra {
		if err := j.rt.DeleteCertificateLine(ctx, j.list, e); err != nil {
			return err
		}
	}
	j.result.certs.lines, j.result.relisted = texts, len(lacks)+len(extra)
	return nil
}

func (j *renewal) entries(ctx context.Context) ([]CertificateEntry, error) {
	command := "show ssl crt-list -n " + j.list
	answers, err := j.rt.show(ctx, j.worker, command)
	if err != nil {
		return nil, err
	}
	entries, err := ParseCertificateList(answers[0])
	if err != nil {
		return nil, &UnexpectedError{command, answers[0]}
	}
	return entries, nil
}

// compareLines notes what somebody else did to the list.
func (j *renewal) compareLines(entries []CertificateEntry) {
	known := slices.Clone(j.known.lines)
	for _, e := range entries {
		if i := slices.Index(known, e.Text); i >= 0 {
			known = slices.Delete(known, i, i+1)
		} else {
			j.differs("certificates", "the line "+cut(e.Text, 200)+" is too many")
		}
	}
	for _, text := range known {
		j.differs("certificates", "the line "+cut(text, 200)+" is missing")
	}
}

func (j *renewal) differs(kind, what string) {
	j.result.diffs = append(j.result.diffs, difference{kind, what})
}

// sameOrder reports whether each name finds its certificates in the same order in two lists of the same lines.
func sameOrder(a, b []string) bool {
	return slices.Equal(a, b) || slices.Equal(shared(a), shared(b))
}

// shared returns the names that several lines have, each with its file, in the order of the lines.
func shared(lines []string) []string {
	count := map[string]int{}
	for _, l := range lines {
		for _, name := range namesOf(l) {
			count[name]++
		}
	}
	var out []string
	for _, l := range lines {
		file, _, _ := strings.Cut(l, " ")
		for _, name := range namesOf(l) {
			if count[name] > 1 {
				out = append(out, name+" "+file)
			}
		}
	}
	slices.SortStableFunc(out, func(x, y string) int {
		x, _, _ = strings.Cut(x, " ")
		y, _, _ = strings.Cut(y, " ")
		return strings.Compare(x, y)
	})
	return out
}

// namesOf returns the names that a line of the list leads to its certificate.
func namesOf(line string) []string {
	return slices.DeleteFunc(strings.Fields(line)[1:], func(name string) bool { return strings.HasPrefix(name, "!") })
}

// comesFirst reports whether the certificate of the file at path stands before another one for a name.
func comesFirst(path string, entries []CertificateEntry) bool {
	its := map[string]bool{}
	for _, e := range entries {
		for _, name := range namesOf(e.Text) {
			switch {
			case e.File == path:
				its[name] = true
			case its[name]:
				return true
			}
		}
	}
	return false
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
	for i, d := range r.diffs {
		a.met.repairs.WithLabelValues(d.kind).Inc()
		if i < 20 {
			a.log.WithField("kind", d.kind).Warn("audit: " + d.what)
		}
	}
	for _, name := range r.renewed {
		a.log.WithField("certificate", name).Info("put a renewed certificate in, without a reload")
	}
	if r.relisted > 0 {
		a.log.WithField("lines", r.relisted).Info("changed which certificates answer for which names, without a reload")
	}
	var unexpected *UnexpectedError
	switch {
	case r.err == nil:
		a.certs, a.certChanges = r.certs, r.changes
	case errors.Is(r.err, errOrder):
		a.log.WithError(r.err).Info("the certificates come with a reload")
		a.force(haproxy.CertificatesChanged)
	case errors.As(r.err, &unexpected), errors.Is(r.err, errCertificate):
		a.log.WithError(r.err).Warn("the certificates come with a reload")
		a.force(ReasonCertificate)
	case !r.published:
		a.onDisk, a.certChanges = nil, 0 // some of the files may be new, and it is tried again
		a.met.fileErrors.Inc()
		a.log.WithError(r.err).Error("the certificates can't be written")
	default:
		a.certChanges = 0
		a.lost(r.err)
	}
}
