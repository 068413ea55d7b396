package main

import (
	"signalbox"
	"signalbox/metrics/statsd"
)

// takeStatsD opens where the services of this machine may send StatsD to.
func (c *controller) takeStatsD() error {
	addresses, err := statsd.ParseAddresses(c.settings.StatsD)
	if err == nil {
		c.statsd, err = statsd.Listen(statsd.Config{
			Addresses: addresses, Mapping: c.settings.StatsDMapping, Log: c.journal.WithField("room", "statsd"),
		})
	}
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "--statsd with another address"}
	}
	return nil
}

// statsdStatus says how StatsD fares; nil if it is not taken. What services do wrong degrades no machine.
func (c *controller) statsdStatus() *signalbox.StatsDStatus {
	if len(c.settings.StatsD) == 0 {
		return nil
	}
	s := c.statsd.Status()
	out := &signalbox.StatsDStatus{
		Level: signalbox.OK, Addresses: s.Addresses, Samples: s.Samples, Bad: s.Bad, Overflow: s.Overflow, Lost: s.Lost, Series: s.Series,
	}
	if s.Gone != "" {
		out.Level, out.Detail = signalbox.Degraded, "the socket "+s.Gone+" is gone: restart signalbox"
	}
	return out
}
