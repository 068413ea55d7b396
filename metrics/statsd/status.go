package statsd

import (
	"io/fs"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Status is how the receiver fares.
type Status struct {
	Addresses []string
	Samples   uint64 // values that arrived
	Bad       uint64 // lines and values that were not taken
	Overflow  uint64 // values that were not taken because there were too many series
	Lost      uint64 // datagrams that the kernel dropped
	Series    int
	Gone      string // the path of a socket that is not there any more
}

// Status returns how the receiver fares now.
func (r *Receiver) Status() Status {
	r.countDrops()
	st := r.decoder.stats
	s := Status{
		Addresses: r.Addresses(), Samples: total(st.samples), Bad: total(st.bad), Overflow: total(st.overflow), Lost: total(st.lost),
		Series: r.decoder.store.size(),
	}
	for _, one := range r.sockets {
		if info, err := os.Lstat(one.path); one.path != "" && (err != nil || info.Mode().Type() != fs.ModeSocket) {
			s.Gone = one.path
		}
	}
	return s
}

// total adds up the counters of a collector.
func total(c prometheus.Collector) (n uint64) {
	ch := make(chan prometheus.Metric)
	go func() {
		defer close(ch)
		c.Collect(ch)
	}()
	for m := range ch {
		var out dto.Metric
		if m.Write(&out) == nil {
			n += uint64(out.GetCounter().GetValue())
		}
	}
	return n
}
