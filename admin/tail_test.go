package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"signalbox/metrics"
)

// watched is a server whose requests one can make pass.
func watched(t *testing.T) (*running, *metrics.Aggregator) {
	t.Helper()
	a := metrics.NewAggregator(metrics.AggregatorConfig{})
	return start(t, func(c *Config, _ *running) { c.Watch = a.Watch }), a
}

func pass(t *testing.T, a *metrics.Aggregator, n int) {
	t.Helper()
	b := &metrics.Batch{Source: 1, At: time.Now(), Records: make([]metrics.Record, n)}
	for i := range b.Records {
		line := fmt.Sprintf(`SB1 H 1 web %d 200 ---- "/a:0" b s 10.0.0.1:1 127.0.0.1:5 1795230849 279 0 0 0 0 0 8 8 1795230849279039 8120 8130 57 73 0 0 0 - - "GET" "HTTP/1.1" "h" "/"`, i)
		if err := metrics.Parse([]byte(line), &b.Records[i]); err != nil {
			t.Fatal(err)
		}
	}
	a.Consume(b)
}

func TestTail(t *testing.T) {
	r, a := watched(t)
	client := NewClient(mustAddress(t, "unix:"+r.socket), "")
	enough := errors.New("enough")
	parts, seen, matched := 0, 0, uint64(0)
	err := client.Tail(t.Context(), TailQuestion{Text: "a", PerSecond: 200}, func(part Tail) error {
		if parts++; parts == 1 {
			pass(t, a, 80) // the first part has nothing: nobody asked before
		}
		if seen, matched = seen+len(part.Requests), matched+part.Matched; matched > 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || matched != 80 || seen != 50 {
		t.Errorf("%v: %d seen of %d", err, seen, matched)
	}
	if len(openWatches(t, a)) != metrics.MaxWatches {
		t.Error("the watch of a client that left stays")
	}
}

// openWatches opens as many watches as it may.
func openWatches(t *testing.T, a *metrics.Aggregator) (open []*metrics.Watch) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for len(open) < metrics.MaxWatches && time.Now().Before(deadline) {
		w, err := a.Watch(metrics.Interest{})
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		t.Cleanup(w.Close)
		open = append(open, w)
	}
	return open
}

func TestTailOfNobody(t *testing.T) {
	r, a := watched(t)
	for query, words := range map[string]string{
		"rate=0": "rate", "rate=x": "rate", "rate=40001": "rate", "failed=perhaps": "failed", "where=colour%3Dred": "colour=red",
	} {
		if code, _, body := r.askSocket("/api/v1/tail?" + query); code != http.StatusBadRequest || !strings.Contains(body, words) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
	for range metrics.MaxWatches {
		w, err := a.Watch(metrics.Interest{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
	}
	client := NewClient(mustAddress(t, "unix:"+r.socket), "")
	err := client.Tail(t.Context(), TailQuestion{}, func(Tail) error { return nil })
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "16") {
		t.Errorf("one too many: %v", err)
	}
}

// A tail ends with whoever asked for it, and with the server, which does not wait for it.
func TestTailEnds(t *testing.T) {
	r, _ := watched(t)
	client := NewClient(mustAddress(t, r.tcp), r.cfg.TokenFile)
	ctx, cancel := context.WithCancel(t.Context())
	err := client.Tail(ctx, TailQuestion{}, func(Tail) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	begun := make(chan bool, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- client.Tail(t.Context(), TailQuestion{}, func(Tail) error {
			select {
			case begun <- true:
			default:
			}
			return nil
		})
	}()
	<-begun
	began := time.Now()
	r.stop()
	if err := <-ended; !errors.Is(err, ErrUnreachable) {
		t.Errorf("the server went: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
