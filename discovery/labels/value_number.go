package labels

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"signalbox"
)

// noChoice is the flaw of a value that is none of those there are.
func noChoice(s string, choices ...string) flaw {
	return flaw{code: "SB121", value: s, text: "is not one of " + strings.Join(choices, ", ")}
}

// parseSwitch reads a boolean.
func parseSwitch(s string) (bool, *flaw) {
	b, ok := parseBool(s)
	if !ok {
		return false, &flaw{code: "SB114", value: s, text: "is not one of true, false, on, off, yes, no, 1, 0"}
	}
	return b, nil
}

// number returns a reader of whole numbers of lo to hi.
func number(lo, hi int) func(string) (int, *flaw) {
	return func(s string) (int, *flaw) {
		n, bad := parseInt(s)
		if bad == nil && (n < lo || n > hi) {
			bad = &flaw{code: "SB123", value: s, text: fmt.Sprintf("is not a number of %d to %d", lo, hi)}
		}
		if bad != nil {
			return 0, bad
		}
		return n, nil
	}
}

// clampedNumber is number, but what is beyond a bound counts as the bound.
func clampedNumber(lo, hi int) func(string) (int, *flaw) {
	return func(s string) (int, *flaw) {
		n, bad := parseInt(s)
		if bad != nil {
			return 0, bad
		}
		return clamp(s, n, lo, hi, strconv.Itoa)
	}
}

// clamp returns n, or the bound that it is beyond, and then says so.
func clamp[T int | time.Duration](s string, n, lo, hi T, text func(T) string) (T, *flaw) {
	within := min(max(n, lo), hi)
	if within == n {
		return n, nil
	}
	return within, &flaw{code: "SB124", value: s, text: "is out of bounds", warn: true, used: true, done: text(within) + " holds"}
}

// optional turns a reader of numbers into one of numbers that may be absent.
func optional(parse func(string) (int, *flaw)) func(string) (*int, *flaw) {
	return func(s string) (*int, *flaw) {
		n, bad := parse(s)
		if bad != nil && !bad.used {
			return nil, bad
		}
		return &n, bad
	}
}

// parseInt reads a whole number of at most nine digits.
func parseInt(s string) (int, *flaw) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 9 || strings.Trim(digits, "0123456789") != "" {
		return 0, &flaw{code: "SB123", value: s, text: "is not a whole number"}
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, &flaw{code: "SB123", value: s, text: "is not a whole number"}
	}
	return n, nil
}

// duration returns a reader of times of lo to hi.
func duration(lo, hi time.Duration) func(string) (time.Duration, *flaw) {
	return func(s string) (time.Duration, *flaw) {
		d, bad := parseDuration(s)
		if bad == nil && (d < lo || d > hi) {
			bad = &flaw{code: "SB122", value: s, text: "is not a time of " + short(lo) + " to " + short(hi)}
		}
		if bad != nil {
			return 0, bad
		}
		return d, nil
	}
}

// clamped is duration, but what is beyond a bound counts as the bound.
func clamped(lo, hi time.Duration) func(string) (time.Duration, *flaw) {
	return func(s string) (time.Duration, *flaw) {
		d, bad := parseDuration(s)
		if bad != nil {
			return 0, bad
		}
		return clamp(s, d, lo, hi, short)
	}
}

// short writes a time without the units that are zero: 1h, not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseDuration reads a time such as 250ms, 1.5s or 1h30m, in whole milliseconds.
func parseDuration(s string) (time.Duration, *flaw) {
	if s != "" && s != "0" && len(s) <= 9 && strings.Trim(s, "0123456789") == "" {
		return 0, &flaw{code: "SB122", value: s, text: "has no unit: write " + s + "s or " + s + "ms"}
	}
	if len(s) <= 32 && strings.Trim(s, "0123456789.hms") == "" {
		if d, err := time.ParseDuration(s); err == nil {
			return d.Truncate(time.Millisecond), nil
		}
	}
	return 0, &flaw{code: "SB122", value: s, text: "is not a time such as 250ms, 30s, 5m"}
}

// parseRate reads requests per time: 100/s, 30/10s.
func parseRate(s string) (signalbox.RateLimit, *flaw) {
	if strings.EqualFold(s, "off") {
		return signalbox.RateLimit{}, nil
	}
	bad := func(text string) (signalbox.RateLimit, *flaw) {
		return signalbox.RateLimit{}, &flaw{code: "SB127", value: s, text: text}
	}
	requests, per, ok := strings.Cut(strings.ReplaceAll(s, " ", ""), "/")
	if !ok {
		return bad("is not requests per time, such as 100/s or 30/10s")
	}
	n, wrong := number(1, 1_000_000)(requests)
	if wrong != nil {
		return bad("does not begin with a number of 1 to 1000000")
	}
	if per == "s" || per == "m" || per == "h" {
		per = "1" + per
	}
	d, wrong := duration(time.Second, time.Hour)(per)
	if wrong != nil || d%time.Second != 0 {
		return bad("is not per s, m, h, or a number of seconds up to 1h")
	}
	return signalbox.RateLimit{Requests: n, Per: d}, nil
}

// parseSLO reads an objective: 99.9%, or 99.9% < 250ms.
func parseSLO(s string) (signalbox.SLO, *flaw) {
	bad := func(text string) (signalbox.SLO, *flaw) {
		return signalbox.SLO{}, &flaw{code: "SB136", value: s, text: text}
	}
	share, latency, timed := strings.Cut(s, "<")
	digits, percent := strings.CutSuffix(strings.TrimSpace(share), "%")
	if !percent || len(digits) > 12 || strings.Trim(digits, "0123456789.") != "" {
		return bad("does not begin with a share such as 99.9%")
	}
	objective, err := strconv.ParseFloat(digits, 64)
	if err != nil || objective <= 0 || objective >= 100 {
		return bad("does not begin with a share between 0% and 100%")
	}
	slo := signalbox.SLO{Objective: math.Round(objective*1e8) / 1e10}
	if timed {
		d, wrong := duration(time.Millisecond, 5*time.Minute)(strings.TrimSpace(latency))
		if wrong != nil {
			return bad("does not end with a time of 1ms to 5m")
		}
		slo.Latency = d
	}
	return slo, nil
}

// sampled returns a reader of on, off, one more word, or 1/N.
func sampled(word string) func(string) (string, *flaw) {
	return func(s string) (string, *flaw) {
		if on, ok := parseBool(s); ok {
			if on {
				return "on", nil
			}
			return "off", nil
		}
		if strings.EqualFold(s, word) {
			return word, nil
		}
		if every, ok := strings.CutPrefix(s, "1/"); ok {
			if n, bad := number(1, 1_000_000)(every); bad == nil {
				return "1/" + strconv.Itoa(n), nil
			}
		}
		bad := noChoice(s, "on", "off", word, "1/N with N up to 1000000")
		return "", &bad
	}
}
