package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"signalbox"
)

func newTestJournal(t *testing.T, level, format string) (*journal, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	j, err := newJournal(&b, level, format)
	if err != nil {
		t.Fatal(err)
	}
	return j, &b
}

func TestJournalIsJSONWithoutATerminal(t *testing.T) {
	j, b := newTestJournal(t, "info", "auto")
	j.WithField("app", "/shop").Info("routes changed")
	j.Debug("not this")
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if got["msg"] != "routes changed" || got["app"] != "/shop" || got["level"] != "info" {
		t.Errorf("%v", got)
	}
	j, b = newTestJournal(t, "info", "text")
	j.WithField("app", "/shop").Info("routes changed")
	if !strings.Contains(b.String(), `msg="routes changed" app=/shop`) || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%s", b)
	}
	if _, err := newJournal(b, "loud", "text"); err == nil {
		t.Error("an unknown level is accepted")
	}
	if _, err := newJournal(b, "info", "yaml"); err == nil {
		t.Error("an unknown format is accepted")
	}
}

func TestJournalKeepsTheLastTen(t *testing.T) {
	j, _ := newTestJournal(t, "info", "json")
	for i := range 12 {
		j.WithFields(logrus.Fields{"n": i, "err": errors.New("x")}).Warn("entry")
	}
	j.Info(strings.Repeat("é", 2000))
	last := j.recent()
	if len(last) != 10 || last[0].Fields["n"] != "3" || last[8].Fields["n"] != "11" || last[8].Level != "warning" || last[8].Fields["err"] != "x" {
		t.Errorf("%+v", last)
	}
	if n := len(last[9].Message); n > 1010 {
		t.Errorf("an entry of %d bytes is kept", n)
	}
	if n := testutil.ToFloat64(j.entries.WithLabelValues("warning")); n != 12 {
		t.Errorf("%v warnings are counted, want 12", n)
	}
}

type stringer string

func (s stringer) String() string { return "<" + string(s) + ">" }

// Wherever a secret turns up in an entry, neither the log nor health shows it.
func TestJournalHidesSecrets(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		j, b := newTestJournal(t, "info", format)
		j.hide("")
		j.hide("hunter2")
		j.hide("hunter2-longer")
		err := fmt.Errorf("asking http://me:hunter2@m1: %w", errors.New("refused"))
		j.WithError(err).WithFields(logrus.Fields{"a": "hunter2-longer", "b": stringer("hunter2"), "c": []string{"hunter2"}, "d": 7}).Error("with hunter2")
		text := b.String() + fmt.Sprint(j.recent())
		if strings.Contains(text, "hunter2") || strings.Contains(text, "longer") || strings.Count(text, "[hidden]") != 10 {
			t.Errorf("%s", text)
		}
		if !strings.Contains(text, "refused") || !strings.Contains(text, "7") {
			t.Errorf("too much is hidden: %s", text)
		}
	}
}

func TestRecentMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_reloads_total"}, []string{"reason"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "signalbox_tasks"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "signalbox_apply_seconds"})
	foreign := prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_goroutines"})
	registry.MustRegister(counter, gauge, histogram, foreign)
	r := newRecentMetrics(registry)
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	f := func(second int, want ...signalbox.MetricPoint) {
		t.Helper()
		r.sample(at(second))
		if diff := cmp.Diff(want, r.points(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("at %d (-want +got):\n%s", second, diff)
		}
	}
	f(0) // what is 0 from the start is no news
	gauge.Set(3)
	foreign.Set(5)
	tasks := signalbox.MetricPoint{Time: at(1), Name: "signalbox_tasks", Value: 3}
	f(1, tasks)
	f(2, tasks)
	counter.WithLabelValues("a \"b\"").Inc()
	counter.WithLabelValues("c").Add(2)
	histogram.Observe(1)
	histogram.Observe(1)
	reloads := signalbox.MetricPoint{Time: at(3), Name: "signalbox_reloads_total", Labels: `reason="c"`, Value: 2}
	applied := signalbox.MetricPoint{Time: at(3), Name: "signalbox_apply_seconds_count", Value: 2}
	f(3, applied, reloads, tasks)
	counter.WithLabelValues("a \"b\"").Inc()
	reloads = signalbox.MetricPoint{Time: at(4), Name: "signalbox_reloads_total", Labels: `reason="a \"b\""`, Value: 2}
	f(4, reloads, applied, tasks)
	for i := range 20 {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "signalbox_more_" + strconv.Itoa(i)})
		g.Set(1)
		registry.MustRegister(g)
	}
	r.sample(at(5))
	if n := len(r.points()); n != 10 {
		t.Errorf("%d points are kept, want 10", n)
	}
}

func TestRecentMetricsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "signalbox_tasks"})
		registry.MustRegister(gauge)
		r := newRecentMetrics(registry)
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx, 5*time.Second)
		synctest.Wait()
		gauge.Set(1)
		time.Sleep(6 * time.Second)
		if n := len(r.points()); n != 1 {
			t.Errorf("%d points, want 1", n)
		}
		cancel()
	})
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify(notifyReady); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "notify"), "@signalbox-test-" + strconv.Itoa(os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", path)
		if err := notify(notifyReady + "\nSTATUS=ok"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(b)
		if err != nil || string(b[:n]) != "READY=1\nSTATUS=ok" {
			t.Errorf("systemd hears %q, %v", b[:n], err)
		}
		conn.Close()
	}
	t.Setenv("NOTIFY_SOCKET", "/nowhere/notify")
	if err := notify(notifyAlive); err == nil {
		t.Error("a deaf systemd goes unnoticed")
	}
}

func TestWatchdogInterval(t *testing.T) {
	f := func(want time.Duration, usec, pid string) {
		t.Helper()
		t.Setenv("WATCHDOG_USEC", usec)
		t.Setenv("WATCHDOG_PID", pid)
		if got := watchdogInterval(); got != want {
			t.Errorf("with %s and %s: %s, want %s", usec, pid, got, want)
		}
	}
	f(0, "", "")
	f(15*time.Second, "30000000", "")
	f(15*time.Second, "30000000", strconv.Itoa(os.Getpid()))
	f(0, "30000000", "1")
	f(0, "x", "")
	f(0, "-5", "")
}
