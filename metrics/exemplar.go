package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Exemplar is a request that stands for those that took about as long: its trace shows where the time went.
type Exemplar struct {
	Bucket int       `json:"bucket"` // the exponent of the bucket's upper bound: 2^Bucket seconds
	Trace  string    `json:"trace"`
	Micros uint64    `json:"micros"`
	At     time.Time `json:"at"`
}

// exemplars are the last requests with a trace of each classic bucket.
type exemplars [classicHigh - classicLow + 1]struct {
	trace  [32]byte
	length uint8
	us     uint64
	at     int64 // µs
}

// keep keeps a request that took so long, unless it took longer than the greatest bound.
func (e *exemplars) keep(us uint64, r *Record) {
	bucket := classicLow
	for bucket <= classicHigh && us > upper[bucket*perOctave-minIndex] {
		bucket++
	}
	if bucket > classicHigh {
		return
	}
	at := &e[bucket-classicLow]
	at.length = uint8(copy(at.trace[:], r.Trace))
	at.us, at.at = us, r.ended().UnixMicro()
}

// add keeps what others have kept, unless it is older.
func (e *exemplars) add(list []Exemplar) {
	for i := range list {
		x := &list[i]
		if x.Bucket < classicLow || x.Bucket > classicHigh || !isTrace(x.Trace) {
			continue
		}
		if at := &e[x.Bucket-classicLow]; at.length == 0 || x.At.UnixMicro() > at.at {
			at.length = uint8(copy(at.trace[:], x.Trace))
			at.us, at.at = x.Micros, x.At.UnixMicro()
		}
	}
}

// isTrace reports whether a text is the id of a trace, as a log line has it.
func isTrace(id string) bool {
	return (len(id) == 16 || len(id) == 32) && strings.Trim(id, "0123456789abcdef") == ""
}

func (e *exemplars) list() (out []Exemplar) {
	for i := range e {
		if one := &e[i]; one.length > 0 {
			out = append(out, Exemplar{Bucket: classicLow + i, Trace: string(one.trace[:one.length]), Micros: one.us, At: time.UnixMicro(one.at).UTC()})
		}
	}
	return out
}

// mergeExemplars keeps the later one of each bucket.
func mergeExemplars(a, b []Exemplar) []Exemplar {
	if len(a)+len(b) == 0 {
		return nil
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y Exemplar) int {
		return cmp.Or(cmp.Compare(x.Bucket, y.Bucket), y.At.Compare(x.At), cmp.Compare(x.Trace, y.Trace))
	})
	return slices.CompactFunc(all, func(x, y Exemplar) bool { return x.Bucket == y.Bucket })
}

func (e *Exemplar) write() *dto.Exemplar {
	return &dto.Exemplar{
		Label: []*dto.LabelPair{{Name: new("trace_id"), Value: &e.Trace}}, Value: new(float64(e.Micros) / 1e6), Timestamp: timestamppb.New(e.At),
	}
}
