package statsd

import (
	"fmt"
	"testing"
)

// What a line costs, once its series exists.
func BenchmarkLine(b *testing.B) {
	for _, line := range []string{"orders:1|c", "orders:1|c|#shop:north,pay:card", "shop.north.orders.paid:1|c", "wait:12.5|ms|#shop:north"} {
		b.Run(line, func(b *testing.B) {
			r := deaf(b, "testdata/mapping.yml", Limits{})
			text := fmt.Appendf(nil, "%s", line)
			b.ReportAllocs()
			for b.Loop() {
				r.decoder.datagram(text, noon)
			}
		})
	}
}
