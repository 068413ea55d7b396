package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"signalbox/loadgen"
	"signalbox/metrics"
)

func TestCompareLinesUpThreeCounts(t *testing.T) {
	report := loadgen.Report{Targets: []loadgen.TargetReport{
		{Name: "/shop:0", Scheduled: 13, Codes: []loadgen.CodeCount{{Code: 200, ByApp: 10}, {Code: 404, ByProxy: 2}, {Code: 500, ByApp: 1}}},
	}}
	snapshot := &metrics.Snapshot{Services: []metrics.ServiceTotals{
		{Service: "/db:0", Codes: []metrics.CodeCount{{Method: "GET", Code: "200", Count: 7}}},
		{Service: "/shop:0", Codes: []metrics.CodeCount{{Method: "GET", Code: "200", Count: 8}, {Method: "POST", Code: "200", Count: 1}, {Method: "GET", Code: "201", Count: 1}, {Method: "GET", Code: "500", Count: 1}}},
		{Service: "none", Codes: []metrics.CodeCount{{Method: "GET", Code: "404", Count: 3}}},
	}}
	haproxy := map[string][6]uint64{"/db:0": {0, 7}, "/shop:0": {0, 11, 0, 0, 1}}
	got := compare(report, snapshot, haproxy)
	want := []countRow{
		{"/db:0", "200", "-", "7", 7},
		{"/shop:0", "200", "10", "11", 9},
		{"/shop:0", "201", "0", "-", 1},
		{"/shop:0", "500", "1", "1", 1},
		{"none", "404", "-", "-", 3},
	}
	if diff := cmp.Diff(want, got.rows, cmp.AllowUnexported(countRow{})); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	// The log has one 200 of the shop less than the load, and one 2xx of the shop less than HAProxy.
	if got.missing != 1 || got.differ != 1 {
		t.Errorf("missing %d, differ %d, want 1, 1", got.missing, got.differ)
	}
	report.Targets[0].Codes[1].ByProxy = 5
	if got := compare(report, snapshot, nil); got.missing != 3 || got.differ != 0 {
		t.Errorf("missing %d, differ %d, want 3, 0", got.missing, got.differ)
	}
}

// Apps that are not the demo's do not mark their answers: then all answers are compared with the log of their service.
func TestCompareWithoutMarks(t *testing.T) {
	report := loadgen.Report{Targets: []loadgen.TargetReport{{Name: "/web:0", Scheduled: 5, Codes: []loadgen.CodeCount{{Code: 200, ByProxy: 5}}}}}
	snapshot := &metrics.Snapshot{Services: []metrics.ServiceTotals{
		{Service: "/web:0", Codes: []metrics.CodeCount{{Method: "GET", Code: "200", Count: 4}}},
	}}
	got := compare(report, snapshot, nil)
	if got.missing != 1 || got.rows[0].load != "5" {
		t.Errorf("missing %d, rows %v", got.missing, got.rows)
	}
}
