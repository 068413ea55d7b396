package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"signalbox/loadgen"
	"signalbox/metrics"
)

// countRow is what three counters that know nothing of each other say of one service and status code.
type countRow struct {
	service, code string
	load          string // "-": the load does not call this service
	haproxy       string // of the class of codes; "-": HAProxy counts classes, and another code of the same class has the figure
	log           uint64
	equal         bool
}

// countRows lines up the three counts. HAProxy counts classes of codes, so its figure stands at the first code of a class. What the
// log has beyond the load came from somebody else, such as a person with curl; what it has less of is missing.
func countRows(report loadgen.Report, snapshot *metrics.Snapshot, haproxy map[string][6]uint64) []countRow {
	var rows []countRow
	for i := range snapshot.Services {
		s := &snapshot.Services[i]
		codes := map[string]uint64{}
		for _, c := range s.Codes {
			codes[c.Code] += c.Count
		}
		target := report.Target(s.Service)
		for _, c := range target.Codes {
			codes[strconv.Itoa(c.Code)] += 0
		}
		classes := map[byte]uint64{}
		for code, n := range codes {
			classes[code[0]] += n
		}
		shown := map[byte]bool{}
		for _, code := range slices.Sorted(maps.Keys(codes)) {
			row := countRow{service: s.Service, code: code, load: "-", haproxy: "-", log: codes[code], equal: true}
			if n, err := strconv.Atoi(code); err == nil && target.Scheduled > 0 {
				row.load = fmt.Sprint(target.Code(n))
				row.equal = target.Code(n) <= row.log
			}
			if own, ok := haproxy[s.Service]; ok && code[0] >= '1' && code[0] <= '5' && !shown[code[0]] {
				shown[code[0]] = true
				row.haproxy = fmt.Sprint(own[code[0]-'1'])
				row.equal = row.equal && own[code[0]-'1'] == classes[code[0]]
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func equalCounts(rows []countRow) bool {
	return !slices.ContainsFunc(rows, func(r countRow) bool { return !r.equal })
}

// short prints a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
