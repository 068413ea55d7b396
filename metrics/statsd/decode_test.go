package statsd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEachKindOfTag(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		r := deaf(t, "", Limits{})
		r.decoder.datagram([]byte(line), noon)
		same(t, want, exposition(t, r, noon))
		if bad := refused(t, r); len(bad) > 0 {
			t.Errorf("%s: %v", line, bad)
		}
	}
	f("cart.orders:3|c", `cart_orders 3`)
	f("orders:3|c|#shop:north,pay.by:card", `orders{pay_by="card",shop="north"} 3`) // DogStatsD
	f("orders,shop=north,pay=card:3|c", `orders{pay="card",shop="north"} 3`)        // InfluxDB
	f("orders#shop=north,pay=card:3|c", `orders{pay="card",shop="north"} 3`)        // Librato
	f("orders[shop=north,pay=card]:3|c", `orders{pay="card",shop="north"} 3`)       // SignalFX
	f("or[shop=north]ders:3|c", `orders{shop="north"} 3`)
	f("orders:3|c|@0.1|#shop:north|c:abc|T1656581400", `orders{container_id="abc",shop="north"} 30`)
}

func TestEachType(t *testing.T) {
	r := deaf(t, "testdata/mapping.yml", Limits{})
	r.decoder.datagram([]byte("n:2|c\nn:3|c|@0.5\r\n\nlevel:7|g\nlevel:-2|g\nlevel:+0.5|g\n"), noon)
	r.decoder.datagram([]byte("wait:250|ms|@0.5\nsize:0.05:20|h\nspread:0.5|d\n"), noon)
	same(t, `
level 5.5
n 8
size_bucket{le="0.01"} 0
size_bucket{le="0.1"} 1
size_bucket{le="1"} 1
size_bucket{le="+Inf"} 2
size_sum 20.05
size_count 2
spread_bucket{le="0.01"} 0
spread_bucket{le="0.1"} 0
spread_bucket{le="1"} 1
spread_bucket{le="+Inf"} 1
spread_sum 0.5
spread_count 1
wait_bucket{le="0.01"} 0
wait_bucket{le="0.1"} 0
wait_bucket{le="1"} 2
wait_bucket{le="+Inf"} 2
wait_sum 0.5
wait_count 2
`, exposition(t, r, noon))
}

// A set shows how many different values the last whole minute had.
func TestSets(t *testing.T) {
	r := deaf(t, "", Limits{SetValues: 3})
	r.decoder.datagram([]byte("users:ann|s|#shop:n\nusers:bob|s|#shop:n\nusers:ann|s|#shop:n\nusers:a:b|s|@0.5|#shop:n\nusers:fourth|s|#shop:n"), noon)
	same(t, `users{shop="n"} 0`, exposition(t, r, noon))
	same(t, `users{shop="n"} 3`, exposition(t, r, noon.Add(time.Minute)))
	r.decoder.datagram([]byte("users:eve|s|#shop:n"), noon.Add(90*time.Second))
	same(t, `users{shop="n"} 1`, exposition(t, r, noon.Add(2*time.Minute)))
	same(t, `users{shop="n"} 0`, exposition(t, r, noon.Add(10*time.Minute)))
	if diff := cmp.Diff(map[string]float64{overflowSet: 1}, refused(t, r)); diff != "" {
		t.Error(diff)
	}
}

func TestMappingFile(t *testing.T) {
	r := deaf(t, "testdata/mapping.yml", Limits{})
	r.decoder.datagram([]byte(strings.Join([]string{
		"shop.north.orders.paid:2|c|#shop:mine,by:card", "shop.north.basket:5|g|#shop:mine", "shop.north.basket:1|c", "shop.east.basket:4|g:1|c", "shop.north.answer:100|ms",
		"legacy.disk-kb:2|g", "noise.anything:1|c", "unmapped.name:1|c",
	}, "\n")), noon)
	same(t, `
legacy_disk_bytes 2048
shop_answer_seconds{shop="north",quantile="0.5"} 0.1
shop_answer_seconds_sum{shop="north"} 0.1
shop_answer_seconds_count{shop="north"} 1
shop_baskets{shop="east"} 4
shop_baskets{shop="mine"} 5
shop_east_basket 1
shop_north_basket 1
shop_orders_total{by="card",outcome="paid",shop="north"} 2
unmapped_name 1
`, exposition(t, r, noon))
	if n := total(r.decoder.stats.discarded); n != 1 {
		t.Errorf("%d values are discarded", n)
	}
	// The gauge has a minute, the rest ten; a counter that comes back begins anew.
	if text := exposition(t, r, noon.Add(61*time.Second)); strings.Contains(text, "shop_baskets") || !strings.Contains(text, "unmapped_name 1") {
		t.Errorf("after a minute:\n%s", text)
	}
	if text := exposition(t, r, noon.Add(11*time.Minute)); text != "" {
		t.Errorf("after eleven minutes:\n%s", text)
	}
	r.decoder.datagram([]byte("unmapped.name:4|g"), noon.Add(12*time.Minute))
	same(t, "unmapped_name 4", exposition(t, r, noon.Add(12*time.Minute)))
}

func TestWrongMappingFiles(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "m.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Listen(Config{Mapping: path})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
	f("mappings: 7", "unmarshal")
	f("mappings: [{match: 'a.*'}]", "didn't set a metric name")
	f("mappings: [{match: 'a.*', name: a, observer_type: histogram, histogram_options: {buckets: [2, 1]}}]", "bucket")
	f("defaults: {observer_type: histogram, histogram_options: {buckets: [2, 1]}}", "defaults")
	if _, err := Listen(Config{Mapping: "/nowhere/m.yml"}); err == nil || !strings.Contains(err.Error(), "/nowhere/m.yml") {
		t.Error(err)
	}
}

// What cannot be taken is counted by its reason, and a scrape goes on as before.
func TestWhatIsNotTaken(t *testing.T) {
	f := func(reason string, lines ...string) {
		t.Helper()
		r := deaf(t, "testdata/mapping.yml", Limits{})
		r.decoder.datagram([]byte("fine:1|c\nclash:1|g\nlong_sum:1|g\nn_total:1|c"), noon)
		before := exposition(t, r, noon)
		for _, line := range lines {
			r.decoder.datagram([]byte(line), noon)
		}
		same(t, before, exposition(t, r, noon))
		if diff := cmp.Diff(map[string]float64{reason: float64(len(lines))}, refused(t, r)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", reason, diff)
		}
	}
	f("malformed_line", "nonsense", ":1|c", "caf\xe9:1|c", "\x00\xff:\x01")
	f("not_enough_parts_after_colon", "a:1")
	f("malformed_value", "a:one|c", "a:|c", "a:|s")
	f("malformed_component", "a:1|c|", "a:1|c|@1|@1|@1|@1|@1")
	f("illegal_event", "a:1|zz")
	f("invalid_extended_aggregate_type", "a:1:2|c")
	f("malformed_container_id", "a:1|c|#b:c|c:")
	f("mixed_tagging_styles", "a,b=c:1|c|#d:e")
	f(reasonRate, "a:1|c|@0", "a:1|ms|@-1", "a:1|ms|@NaN", "a:1|c|@2", "a:1|c|@x", "a:1|c|@")
	f(reasonWeight, "a:1|ms|@0.0000001", "a:1:1:1|h|@0.0002|#b:c")
	f(reasonFinite, "a:NaN|g", "a:Inf|c", "a:-Inf|ms", "a:1|c|@1e-309")
	f(reasonNegative, "a:-1|c")
	f(reasonReserved, "signalbox.log.lost_total:1|c", "signalbox_service_requests_total:1|c", "go_goroutines:1|g", "process.x:1|c", "up:0|g", "go:1|ms")
	f(reasonType, "clash:1|c", "long:1|ms", "n:1|c", "fine:2|g")
	f(reasonLabel, "a:1|h|#le:5", "a:1|c|#__name__:b")
	f(reasonEvent, "_e{5,4}:title|text")
	f(reasonCheck, "_sc|disk|2|#a:b")
	f(reasonTooLong, strings.Repeat("a", maxLine)+":1|c", "a:1|c|#b:"+strings.Repeat("c", maxIdentity), strings.Repeat("a", maxDatagram+1))
}

// A tag that cannot be read is left out; the value counts.
func TestMalformedTag(t *testing.T) {
	r := deaf(t, "", Limits{})
	r.decoder.datagram([]byte("a:1|c|#b,c:d,:e"), noon)
	same(t, `a{c="d"} 1`, exposition(t, r, noon))
	if diff := cmp.Diff(map[string]float64{reasonTag: 2}, refused(t, r)); diff != "" {
		t.Error(diff)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	r := deaf(t, "", Limits{Series: 30, PerName: 20, TTL: time.Minute})
	for i := range 100 {
		r.decoder.datagram(fmt.Appendf(nil, "greedy:1|c|#user:%d\nother%d:1|c", i, i), noon)
	}
	r.decoder.datagram([]byte("greedy:1|c|#user:3"), noon) // one that is known is taken as ever
	text := exposition(t, r, noon)
	if n := strings.Count(text, "\n"); n != 30 || !strings.Contains(text, `greedy{user="3"} 2`) {
		t.Errorf("%d series:\n%s", n, text)
	}
	if got := refused(t, r)[overflowSeries]; got != 170 {
		t.Errorf("%v did not fit", got)
	}
	// Their time makes room, without a scrape too.
	r.decoder.datagram([]byte("late:1|c"), noon.Add(2*time.Minute))
	same(t, "late 1", exposition(t, r, noon.Add(2*time.Minute)))
}

func TestLargeSeriesCountForSeveral(t *testing.T) {
	r := deaf(t, "testdata/mapping.yml", Limits{Series: 10, TTL: time.Minute})
	r.decoder.datagram([]byte("shop.a.answer:1|ms\nwait:1|ms\nwait:1|ms|#a:b\nn:1|c\nmore:1|ms\nn:1|c|#a:b"), noon)
	if n, left := r.decoder.store.size(), refused(t, r)[overflowSeries]; n != 4 || left != 2 {
		t.Errorf("%d series, %v too many", n, left)
	}
	r.decoder.datagram([]byte("shop.b.answer:1|ms\nshop.c.answer:1|ms"), noon.Add(11*time.Minute))
	if n := r.decoder.store.size(); n != 2 {
		t.Errorf("later there are %d series", n)
	}
}

func FuzzDatagram(f *testing.F) {
	for _, seed := range []string{
		"a:1|c", "a:1|c|@0.1|#b:c,d:e|c:x|T1", "a,b=c:2|g", "a#b=c:1:2:3|ms", "a[b=c]:+1|g", "u:x|s|#t:1", "shop.n.orders.paid:1|c", "a:1|h|@0.001",
		"legacy.disk-kb:1|c\nshop.x.basket:1|g\nshop.x.answer:9|ms", "_e{1,1}:a|b", "a_sum:1|g\na:1|ms", "go_x:1|c", "a.b..c:1|c\n.:1|g", "shop..orders.:1|c",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := deaf(t, "testdata/mapping.yml", Limits{Series: 50})
		r.decoder.datagram(b, noon)
		r.decoder.datagram([]byte("shop.north.orders.paid:2|c"), noon)
		_ = exposition(t, r, noon)
		if n := refused(t, r)[reasonFailed]; n > 0 {
			t.Errorf("the parser fails at %q", b)
		}
	})
}
