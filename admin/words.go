package admin

import (
	"fmt"
	"time"
)

// Ago words how long before a moment something was: "3m12s ago", "never".
func Ago(t, at time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return durationText(age(t, at)) + " ago"
}

// Span words a duration in seconds, as Ago does.
func Span(seconds float64) string { return durationText(time.Duration(seconds * float64(time.Second))) }

// durationText words a duration with two units at most: "0s", "12s", "3m12s", "5h3m", "12d4h".
func durationText(d time.Duration) string {
	day := 24 * time.Hour
	switch d = d.Truncate(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}
