package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// value is a pflag.Value that is read, checked and printed by three functions.
type value[T any] struct {
	to    *T
	kind  string
	read  func(string) (T, error)
	print func(T) string
}

// Set implements pflag.Value.
func (v *value[T]) Set(s string) error {
	x, err := v.read(s)
	if err != nil {
		return err
	}
	*v.to = x
	return nil
}

// String implements pflag.Value.
func (v *value[T]) String() string {
	if v.to == nil {
		return ""
	}
	return v.print(*v.to)
}

// Type implements pflag.Value.
func (v *value[T]) Type() string { return v.kind }

func textOf(to *string) pflag.Value {
	return &value[string]{to, "text", func(s string) (string, error) {
		if strings.ContainsAny(s, "\x00\r\n") {
			return "", errors.New("the value has a line's end or a NUL in it")
		}
		return s, nil
	}, func(s string) string { return s }}
}

func boolOf(to *bool) pflag.Value {
	return &value[bool]{to, "bool", strconv.ParseBool, strconv.FormatBool}
}

func intOf(to *int, least, most int) pflag.Value {
	return &value[int]{to, "int", func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("want a number from %d to %d", least, most)
		}
		return n, nil
	}, strconv.Itoa}
}

func durationOf(to *time.Duration, least, most time.Duration) pflag.Value {
	return &value[time.Duration]{to, "duration", func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return 0, fmt.Errorf("want a time from %s to %s, as in 500ms, 15s, 2m or 1h", shortDuration(least), shortDuration(most))
		}
		return d, nil
	}, shortDuration}
}

// shortDuration prints a duration without the zero units that time.Duration ends with: "30m", not "30m0s".
func shortDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// shareOf reads "0.2" and "20%".
func shareOf(to *float64) pflag.Value {
	return &value[float64]{to, "share", func(s string) (float64, error) {
		text, percent := strings.CutSuffix(s, "%")
		x, err := strconv.ParseFloat(text, 64)
		if percent {
			x /= 100
		}
		if err != nil || math.IsNaN(x) || x < 0 || x > 1 {
			return 0, errors.New("want a share from 0 to 1, or from 0% to 100%")
		}
		return x, nil
	}, func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }}
}

func oneOf(to *string, choices ...string) pflag.Value {
	return &value[string]{to, "text", func(s string) (string, error) {
		if !slices.Contains(choices, s) {
			return "", fmt.Errorf("want one of: %s", strings.Join(choices, ", "))
		}
		return s, nil
	}, func(s string) string { return s }}
}

// list is a flag of several values, separated by commas or given by repeating the flag. The first use replaces the default.
type list struct {
	to  *[]string
	set bool
}

func listOf(to *[]string) pflag.Value { return &list{to: to} }

// Set implements pflag.Value.
func (l *list) Set(s string) error {
	if !l.set {
		*l.to, l.set = nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l.to = append(*l.to, part)
		}
	}
	return nil
}

// String implements pflag.Value.
func (l *list) String() string {
	if l.to == nil {
		return ""
	}
	return strings.Join(*l.to, ",")
}

// Type implements pflag.Value.
func (l *list) Type() string { return "list" }
