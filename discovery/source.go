package discovery

import (
	"context"
	"io"
	"maps"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
)

// Source is one origin of services.
type Source interface {
	// Name is short and stable, and names the source in logs, metrics and the persisted state: "marathon".
	Name() string

	// Run reads the origin until ctx ends, and sends each state it has read. It never closes out. It keeps trying through
	// every failure, and returns only when ctx ends or when its configuration can never work.
	// A value on again asks for a whole read soon, not before, to confirm a state that looked suspicious.
	Run(ctx context.Context, out chan<- Update, again <-chan struct{}) error
}

// Update is what a source has read. It is immutable once sent, the services in it included; a service that did not change keeps
// its pointer from one update to the next.
type Update struct {
	// State is the whole state of the source, sorted by service id. Nil: there is no news about services, only about Health.
	State []*signalbox.Service
	// Problems are those of apps as a whole.
	Problems []signalbox.Problem
	// Whole says that State comes from one consistent read of everything, not from a read of single apps.
	Whole bool
	// Explained names the apps and tasks whose absence has a known cause (a death, a scaling, a deletion that the source was
	// told of), so that a shrink which they explain is not suspicious.
	Explained Explained
	// Cause says what led to this update, in a few words: "event api_post_event /shop deployment 5ed4c0c5…", "resync". Causes joins several.
	Cause string
	// At is when the read began.
	At time.Time
	// Event is when the source said that something changed, zero for a read that no event asked for.
	Event time.Time

	Health Health
}

// Explained holds the apps and tasks whose absence has a known cause.
type Explained struct {
	Apps  map[string]bool
	Tasks map[string]bool
	// Proven are the apps that a read of their own has shown not to exist, or to have no services, and those of which the source was told
	// that they are gone. Only these explain a state with nothing in it: a list that is empty by a fault must not pass because everything has just been deployed.
	Proven map[string]bool
}

// And returns what either explains. Neither is changed; the answer may share their maps.
func (x Explained) And(y Explained) Explained {
	return Explained{Apps: either(x.Apps, y.Apps), Tasks: either(x.Tasks, y.Tasks), Proven: either(x.Proven, y.Proven)}
}

func either(a, b map[string]bool) map[string]bool {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// Health is how a source fares.
type Health struct {
	Connected bool      // its event stream stands
	Endpoint  string    // the member that answers
	LastEvent time.Time // when the stream last said something, heart-beats included
	LastRead  time.Time // when a read last succeeded
	Err       string    // why the last read or connection failed, "" if it did not
	Detail    string    // for people, where all is well: how the source is read; "": it follows Endpoint
}

// LoggerOr returns a logger, or one that says nothing for none.
func LoggerOr(l logrus.FieldLogger) logrus.FieldLogger {
	if l != nil {
		return l
	}
	discard := logrus.New()
	discard.SetOutput(io.Discard)
	return discard
}
