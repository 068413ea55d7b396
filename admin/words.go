package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
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

// ShortSpan words a duration in seconds with three digits at most: "450µs", "8.12ms", "1.2s".
func ShortSpan(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return Digits(math.Round(seconds*1e6)) + "µs"
	case seconds < 1:
		return Digits(seconds*1e3) + "ms"
	}
	return Digits(seconds) + "s"
}

// Digits words a number with up to three significant digits, and all of those before the point.
func Digits(x float64) string {
	places := 2
	switch {
	case x >= 100:
		places = 0
	case x >= 10:
		places = 1
	}
	text := strconv.FormatFloat(x, 'f', places, 64)
	if places > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
