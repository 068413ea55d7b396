package metrics

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDerived(t *testing.T) {
	var all []Derived
	for _, one := range [][2]string{
		{"slow", "app=/shop/* path=/checkout/* latency>500ms"}, {"fails", "status=5xx,404"}, {"posts", "app=/shop/cart method=POST,PUT"}, {"fast", "latency<1ms"},
	} {
		d, err := ParseDerived(one[0], one[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	a := NewAggregator(AggregatorConfig{Derived: all})
	of := func(seq int, service, path, method string, status, micros int) string {
		l := strings.Replace(line(1, "web", seq, service, "10.0.0.1:1", status, micros), `"/"`, `"`+path+`"`, 1)
		return strings.Replace(l, `"GET"`, `"`+method+`"`, 1)
	}
	feed(a, epoch, of(0, "/shop/cart:0", "/checkout/1", "GET", 200, 600_000), of(1, "/shop/cart:0", "/checkout/1", "GET", 200, 400_000),
		of(2, "/shop/cart:0", "/", "POST", 503, 600_000), of(3, "/api:0", "/checkout/1", "POST", 404, 600_000), of(4, "/api:0", "/", "GET", 403, 500))
	got := map[string][]DerivedCount{}
	for _, s := range a.Snapshot(epoch).Services {
		got[s.Service] = s.Derived
	}
	want := map[string][]DerivedCount{
		"/shop/cart:0": {{"fails", 1}, {"fast", 0}, {"posts", 1}, {"slow", 1}}, "/api:0": {{"fails", 1}, {"fast", 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDerivedErrors(t *testing.T) {
	for text, want := range map[string]string{
		"": "no condition", "  ": "no condition", "app": `"app"`, "app=shop": "slash", "latency>soon": "duration", "status=6xx": "codes", "status=5x": "codes",
		"colour=red": "must be app=", "latency=5ms": "must be app=", "path=": "a value",
	} {
		if _, err := ParseDerived("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := ParseDerived("Slow-one", "app=/a"); err == nil {
		t.Error("a name with a dash was taken")
	}
}
