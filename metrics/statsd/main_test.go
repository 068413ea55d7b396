package statsd

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// deaf returns a receiver without a socket.
func deaf(t testing.TB, mapping string, limits Limits) *Receiver {
	t.Helper()
	r, err := Listen(Config{Mapping: mapping, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type at struct {
	store *store
	now   time.Time
}

func (at) Describe(chan<- *prometheus.Desc)      {}
func (a at) Collect(ch chan<- prometheus.Metric) { a.store.collect(ch, a.now) }

// exposition returns the samples of what services have sent, as a scrape would show them, without the comments.
func exposition(t testing.TB, r *Receiver, now time.Time) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r, at{r.decoder.store, now})
	families, err := registry.Gather()
	if err != nil {
		t.Fatalf("a scrape fails: %v", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "signalbox_") {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(b.String(), "")
}

// refused returns how often each reason has kept something out.
func refused(t testing.TB, r *Receiver) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if n := f.GetName(); n == "signalbox_statsd_bad_total" || n == "signalbox_statsd_overflow_total" {
			for _, m := range f.GetMetric() {
				if v := m.GetCounter().GetValue(); v > 0 {
					out[m.GetLabel()[0].GetValue()] += v
				}
			}
		}
	}
	return out
}

func same(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
