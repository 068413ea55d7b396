package control

import (
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// Step is one thing that the Applier did to HAProxy, or could not do. A change may take several.
type Step struct {
	// Want is the configuration for which it was done, the newest that was handed over by then. Nil: for none, as a renewed certificate.
	Want       *haproxy.Config
	Cause      string // what led to it where that was not a new configuration: CauseAudit and so on; or ""
	Generation uint64 // of the running state, afterwards
	At         time.Time

	Commands     int // accepted
	Reloaded     bool
	Reasons      []haproxy.Reason    // of the reload
	Certificates []string            // that were put in without a reload
	Withheld     []signalbox.Problem // what is left out of Want
	Err          error               // why it failed; what ran before goes on
	Done         bool                // HAProxy does what Want asks for, less what is withheld
}

// The causes of steps that nobody has asked for.
const (
	CauseAudit       = "audit repair"
	CauseWorker      = "another worker of HAProxy"
	CauseCertificate = "certificate renewal"
	CauseCheck       = "check of the published file"
)

// tell tells Settings.Told of a step.
func (a *Applier) tell(s Step) {
	if s.Cause == "" {
		s.Cause = a.own
	}
	a.own = ""
	if a.cfg.Told == nil {
		return
	}
	s.Generation, s.At, s.Withheld = a.gen, time.Now(), a.withheld.problems()
	a.cfg.Told(s)
}
