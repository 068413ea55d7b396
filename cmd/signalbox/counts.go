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
	load          string // answers that the service's tasks gave to the load; "-": the load does not call this service
	haproxy       string // of the class of codes, at the first code of a class; "-": not known
	log           uint64
}

// counts are the rows, and how far they are apart.
type counts struct {
	rows []countRow
	// missing is how many answers the load had and the log has not. What the log has beyond the load came from somebody else,
	// such as a person with curl.
	missing uint64
	// differ is by how much the log and HAProxy's own counters are apart.
	differ uint64
}

// compare lines up the three counts. HAProxy's are by service and class of codes, and nil when they cannot be compared.
func compare(report loadgen.Report, snapshot *metrics.Snapshot, haproxy map[string]responses) counts {
	var c counts
	report = attributed(report)
	inLog, byProxy := map[string]uint64{}, map[string]uint64{}
	for _, target := range report.Targets {
		for _, answer := range target.Codes {
			byProxy[strconv.Itoa(answer.Code)] += answer.ByProxy
		}
	}
	for i := range snapshot.Services {
		s := &snapshot.Services[i]
		codes, classes := map[string]uint64{}, map[byte]uint64{}
		for _, n := range s.Codes {
			codes[n.Code] += n.Count
			classes[n.Code[0]] += n.Count
			inLog[n.Code] += n.Count
		}
		target := report.Target(s.Service)
		for _, answer := range target.Codes {
			if answer.ByApp > 0 {
				codes[strconv.Itoa(answer.Code)] += 0
			}
		}
		shown := map[byte]bool{}
		for _, code := range slices.Sorted(maps.Keys(codes)) {
			row := countRow{service: s.Service, code: code, load: "-", haproxy: "-", log: codes[code]}
			if target.Scheduled > 0 {
				load := byApp(target, code)
				row.load = fmt.Sprint(load)
				c.missing += load - min(load, codes[code])
			}
			if own, ok := haproxy[s.Service]; ok && code[0] >= '1' && code[0] <= '5' && !shown[code[0]] {
				shown[code[0]] = true
				row.haproxy = fmt.Sprint(own[code[0]-'1'])
				c.differ += apart(own[code[0]-'1'], classes[code[0]])
			}
			c.rows = append(c.rows, row)
		}
	}
	// HAProxy's own answers, a 404 for a name that is gone, need not stand under the service that the load meant.
	for code, n := range byProxy {
		c.missing += n - min(n, inLog[code])
	}
	return c
}

// attributed returns a report in which every answer is the app's if none bears the mark of one: only the demo's apps mark theirs.
func attributed(r loadgen.Report) loadgen.Report {
	targets := slices.Clone(r.Targets)
	for i, t := range targets {
		targets[i].Codes = slices.Clone(t.Codes)
		for j, c := range t.Codes {
			if c.ByApp > 0 {
				return r
			}
			targets[i].Codes[j] = loadgen.CodeCount{Code: c.Code, ByApp: c.ByProxy}
		}
	}
	r.Targets = targets
	return r
}

func byApp(t loadgen.TargetReport, code string) uint64 {
	for _, answer := range t.Codes {
		if strconv.Itoa(answer.Code) == code {
			return answer.ByApp
		}
	}
	return 0
}

func apart(a, b uint64) uint64 { return max(a, b) - min(a, b) }

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
