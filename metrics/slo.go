package metrics

import (
	"maps"
	"slices"
	"time"
)

// Objective is a service level objective. The zero value is none.
type Objective struct {
	Share   float64       // of good requests, 0 to 1
	Latency time.Duration // within which a request must be answered to be good; 0: an answer below 500 suffices
}

// burnWindows are those over which burn rates are taken: the pairs of the usual alerts are 5 min and 1 h, 30 min and 6 h, 6 h and 3 days.
var burnWindows = []struct {
	name string
	span time.Duration
}{
	{"5m", 5 * time.Minute}, {"30m", 30 * time.Minute}, {"1h", time.Hour}, {"6h", 6 * time.Hour}, {"3d", 72 * time.Hour},
}

// SLOTotals is how a service has done by its objective since counting began. Good and Judged merge exactly.
type SLOTotals struct {
	Share   float64 `json:"share"`
	Latency int64   `json:"latency_us,omitempty"`
	Judged  uint64  `json:"judged"` // requests, without those that a client ended or that were wrong
	Good    uint64  `json:"good"`
}

// judge counts a request by the service's objective. What the client did itself is not the service's.
func (s *service) judge(r *Record, f Failure) {
	if s.about.SLO.Share <= 0 || f == ClientGone || f == ClientTimeout || f == Refused {
		return
	}
	s.judged++
	if late := s.about.SLO.Latency; f == Fine && (late == 0 || r.Duration() <= late.Microseconds()) {
		s.good++
	}
}

// BurnRate returns how fast the error budget of an objective is used up in a window: at 1 it lasts for as long as the objective is meant
// to hold; 0 without requests.
func (w *Window) BurnRate(o Objective) float64 {
	if w.Judged == 0 || o.Share <= 0 || o.Share >= 1 {
		return 0
	}
	return float64(w.Judged-w.Good) / float64(w.Judged) / (1 - o.Share)
}

// Budget is how a service does by its objective now.
type Budget struct {
	Service string
	SLO     Objective
	Burn    map[string]float64 // by window: "5m", "30m", "1h", "6h", "3d"
	Left    float64            // share of the budget of the last three days that is left; negative: overdrawn
}

// Budgets returns how each service that has an objective does, sorted by service.
func (a *Aggregator) Budgets(now time.Time) []Budget {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.rolled
	if from.IsZero() {
		from = a.cfg.Started
	}
	var out []Budget
	for _, name := range sortedNames(a.services) {
		s := a.services[name]
		if s.about.SLO.Share <= 0 {
			continue
		}
		b := Budget{Service: name, SLO: s.about.SLO, Burn: map[string]float64{}}
		for _, one := range burnWindows {
			w := s.window(from.UnixMilli(), now.UnixMilli(), one.span)
			b.Burn[one.name] = w.BurnRate(s.about.SLO)
		}
		b.Left = 1 - b.Burn["3d"]
		out = append(out, b)
	}
	return out
}

func sortedNames(services map[string]*service) []string { return slices.Sorted(maps.Keys(services)) }
