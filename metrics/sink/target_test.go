package sink

import (
	"strings"
	"testing"
)

func TestWrongTargets(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := Parse(text, here)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
	f("", "no kind of sink; there are graphite, riemann, statsd")
	f("host:8125", "no kind of sink")
	f("influx://host", `"influx" is no kind of sink`)
	f("statsd://", "of the form statsd://host:8125")
	f("graphite:///run/x.sock", "of the form graphite://host:2003")
	f("statsd://host/path", "of the form")
	f("statsd://host:0", `"0" is no port`)
	f("statsd://host:99999", `"99999" is no port`)
	f("statsd://me:hunter2@host", "holds credentials")
	f("statsd://host?token=hunter2", `"token" is no option of it; there are mtu, name, prefix, queue, tags, times, with`)
	f("statsd://host?%zz", "not of the form option=value")
	f("statsd://host#hunter2", "not of the form")
	f("statsd://ho st", "no URL")
	f("statsd://host?tags=influx", "option tags: want one of: none, datadog")
	f("statsd://host?mtu=10", "option mtu: want a number from 256 to 65507")
	f("statsd://host?prefix=a%20b", "option prefix: may have no blanks")
	f("statsd://host?prefix=a:b", "option prefix: may have none of")
	f("statsd://host?prefix=a&prefix=b", "option prefix: is given 2 times")
	f("statsd://host?with=hosts", "option with: want routes, tasks or callers")
	f("graphite://host?times=buckets", "option times: want one of: none, summary")
	f("graphite://host?prefix=a;b", "not of the form") // url.ParseQuery takes no ;
	f("graphite://host?prefix=a%3Bb", "may have no ;")
	f("riemann://host?warning=0.5&critical=0.1", "option warning: is larger")
	f("riemann://host?critical=2", "option critical: want a share")
	f("riemann://host?ttl=0", "option ttl: want a number from 1")
	f("riemann://host?queue=0", "option queue: want a number from 1 to 1024")
}

func TestNames(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := parse(t, text).Name; got != want {
			t.Errorf("%s is called %s, not %s", text, got, want)
		}
	}
	f("statsd://host", "statsd://host:8125")
	f("statsd://[::1]", "statsd://[::1]:8125")
	f("statsd:///run/statsd.sock?tags=datadog", "statsd:///run/statsd.sock")
	f("graphite://host/", "graphite://host:2003")
	f("riemann://host:1?name=blue", "blue")
	if _, err := ParseAll([]string{"statsd://h", "statsd://h:8125?tags=datadog"}, here); err == nil || !strings.Contains(err.Error(), "two sinks are called statsd://h:8125") {
		t.Errorf("%v", err)
	}
	if all, err := ParseAll([]string{"statsd://h", "statsd://h?tags=datadog&name=dog"}, here); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}
