package main

import (
	"strings"
	"testing"
)

// A derived metric is a variable, which no flag reads and config shows; a wrong one says what is wrong with it.
func TestDerivedMetrics(t *testing.T) {
	p := testProgram(map[string]string{"SIGNALBOX_METRIC_slow_checkout": "app=/shop path=/checkout/* latency>500ms"})
	all, err := p.env.derived()
	if err != nil || len(all) != 1 || all[0].Name != "slow_checkout" {
		t.Fatalf("%+v, %v", all, err)
	}
	if strays, err := p.env.check(p.command()); err != nil || len(strays) > 0 {
		t.Errorf("%v, %v", strays, err)
	}
	_, err = testProgram(map[string]string{"SIGNALBOX_METRIC_x": "colour=red"}).env.check(p.command())
	if err == nil || !strings.Contains(err.Error(), `SIGNALBOX_METRIC_x: condition "colour=red"`) {
		t.Error(err)
	}
}

func testProgram(env map[string]string) *program { return &program{env: env} }
