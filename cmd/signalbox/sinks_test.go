package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSinksAreShownWithoutSecrets(t *testing.T) {
	f := func(in []string, want string) {
		t.Helper()
		s := defaults()
		s.Sinks = in
		if got := s.effective("sink", strings.Join(in, ",")); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
	f(nil, "")
	f([]string{"statsd://h?tags=datadog", "graphite://g:1"}, "statsd://h?tags=datadog,graphite://g:1")
	f([]string{"statsd://h?token=hunter2", "graphite://me:hunter2@g"}, "statsd://h?…,…@g")
}

func TestWrongSinks(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		s := defaults()
		s.Sinks = []string{"statsd://ok", text}
		err := s.validate()
		if err == nil || !strings.HasPrefix(err.Error(), "--sink: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
	f("statsd://h?token=hunter2", `"token" is no option of it`)
	f("graphite://me:hunter2@h", "holds credentials")
	f("statsd://ok", "two sinks are called statsd://ok:8125")
	f("kafka://h", "there are graphite, riemann, statsd")
}

// All that is wrong is said, each on a line of its own.
func TestSeveralWrongSinks(t *testing.T) {
	s := defaults()
	s.Sinks = []string{"statsd://a?mtu=1&tags=x", "kafka://h"}
	want := []string{
		"--sink: statsd://a:8125: option tags: want one of: none, datadog", "--sink: statsd://a:8125: option mtu: want a number from 256 to 65507",
		`--sink: "kafka" is no kind of sink; there are graphite, riemann, statsd`,
	}
	got := lines(s.validate())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Every variable may name several sinks.
func TestSinksOfAVariable(t *testing.T) {
	s := defaults()
	i := slices.IndexFunc(settingTable, func(row setting) bool { return row.name == "sink" })
	if err := settingTable[i].value(&s).Set("statsd://a?with=routes&with=tasks,riemann://b"); err != nil {
		t.Fatal(err)
	}
	if err := s.validate(); err != nil || len(s.Sinks) != 2 {
		t.Errorf("%q: %v", s.Sinks, err)
	}
}
