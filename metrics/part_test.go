package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fullLine has all that a line of today has.
const fullLine = httpLine + " " + someTrace + ` "%2Fshop%2Fweb" "x-cart=7&x-shop=a%20b"`

// Who called and the headers stand behind the trace; a line may be cut there, and what is not as HAProxy writes it is refused.
func TestCallerOfALine(t *testing.T) {
	var r Record
	if err := Parse([]byte(fullLine), &r); err != nil || string(r.Caller) != "%2Fshop%2Fweb" || string(r.Headers) != "x-cart=7&x-shop=a%20b" ||
		string(r.Trace) != someTrace || r.Truncated {
		t.Errorf("%v: caller %q, headers %q, trace %q", err, r.Caller, r.Headers, r.Trace)
	}
	for _, end := range []string{` - "" ""`, " " + someTrace + ` "" ""`} {
		if err := Parse([]byte(httpLine+end), &r); err != nil || len(r.Caller)+len(r.Headers) != 0 || r.Truncated {
			t.Errorf("%q: %v, caller %q, headers %q", end, err, r.Caller, r.Headers)
		}
	}
	for n := len(httpLine) + 1; n < len(fullLine); n++ {
		err := Parse([]byte(fullLine[:n]), &r)
		if old := n == len(httpLine)+1+len(someTrace) || n == len(httpLine)+17; err != nil || r.Truncated == old || string(r.Path) != "/cart/7" {
			t.Errorf("cut to %q: %v, cut %t", fullLine[len(httpLine):n], err, r.Truncated)
		}
		if r.Headers != nil || r.Caller != nil && string(r.Caller) != "%2Fshop%2Fweb" {
			t.Errorf("cut to %q: half a field is taken: %q, %q", fullLine[len(httpLine):n], r.Caller, r.Headers)
		}
	}
	for _, end := range []string{` x`, `"`, ` "x"`} {
		if err := Parse([]byte(fullLine+end), &r); err == nil {
			t.Errorf("%q behind the headers is read", end)
		}
	}
}

// What a part of a service's requests came to, by hand.
func TestParts(t *testing.T) {
	a := NewAggregator(AggregatorConfig{MaxCallers: 2})
	failed := strings.NewReplacer(" 200 ----", " 503 SC--", `"GET"`, `"POST"`, " 0 0 0 - - ", " +2 0 0 TLSv1.3 AES ", " 2 3 40 47 ", " 2 -1 -1 50 ", " 45279 46100 ", " -1 50000 ").Replace(fullLine)
	feed(a, epoch, fullLine, failed, strings.Replace(fullLine, "%2Fshop%2Fweb", "b", 1), strings.Replace(fullLine, "%2Fshop%2Fweb", "c%", 1), httpLine)
	s := a.Snapshot(epoch).Service("/shop/cart:0")
	part := Part{
		Name: "/shop/web", Classes: []ClassCount{{"GET", "2xx", 1}, {"POST", "5xx", 1}},
		Terminations: []TerminationCount{{"server_abort", "connect", 1}}, Failures: []ReasonCount{{"connect", 1}}, TLS: []TLSCount{{Version: "TLSv1.3", Count: 1}},
		BytesIn: 2 * 1843, BytesOut: 2 * 73, Retries: 2, Redispatches: 1,
		Queue: Times{2, 4000}, Connect: Times{1, 3000}, Response: Times{1, 45279},
	}
	part.Duration.Observe(47100)
	part.Duration.Observe(51000)
	if diff := cmp.Diff(part, s.Callers[0], cmp.AllowUnexported(Histogram{})); diff != "" {
		t.Errorf("a caller's (-want +got)\n%s", diff)
	}
	if len(s.Callers) != 3 || s.Callers[1].Name != "b" || s.Callers[2].Name != Other || s.Callers[1].Requests() != 1 {
		t.Errorf("callers %+v", s.Callers)
	}
	if n := a.Snapshot(epoch).Overflow["caller"]; n != 1 {
		t.Errorf("%d beyond the limit of callers", n)
	}
	if diff := cmp.Diff([]TLSCount{{"TLSv1.3", "AES", 1}}, s.TLS); diff != "" {
		t.Errorf("ciphers (-want +got)\n%s", diff)
	}
	for _, all := range [][]Part{s.Tasks, s.Routes} {
		one := all[0]
		if len(all) != 1 || one.Requests() != 5 || one.BytesIn != s.BytesIn || one.BytesOut != s.BytesOut || one.Retries != s.Retries ||
			one.Redispatches != 1 || one.Connect.Count != s.Connect.Count() || one.Response.Count != s.Response.Count() || one.Duration.Count() != 5 {
			t.Errorf("a part that is all of the service: %+v", all)
		}
	}
	a.Tick(epoch.Add(callerIdle + time.Second))
	if now := a.Snapshot(epoch).Service("/shop/cart:0"); len(now.Callers) != 0 || len(now.Tasks) != 1 {
		t.Errorf("an hour later: %+v", now)
	}
}

// However many callers and ciphers somebody invents, there are no more than the limits.
func TestCallersAreBounded(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	for i := range 3000 {
		feed(a, epoch, strings.NewReplacer("%2Fshop%2Fweb", fmt.Sprint("c", i), "- - \"GET\"", fmt.Sprintf("TLSv1.2 C%d \"GET\"", i)).Replace(fullLine))
	}
	s := a.Snapshot(epoch).Service("/shop/cart:0")
	if len(s.Callers) != 65 || len(s.TLS) != maxCiphers+1 || len(a.services["/shop/cart:0"].saidBy) > 256 {
		t.Errorf("%d callers, %d ciphers", len(s.Callers), len(s.TLS))
	}
}
