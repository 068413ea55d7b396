package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// audit writes the line of an entry, once for what is done and once more for each failure.
func (r *register) audit(e *entry, due bool) {
	if !due || e.logged && e.Error == "" {
		return
	}
	e.logged = e.Error == ""
	fields := logrus.Fields{
		"generation": e.Generation, "cause": e.Cause, "commands": e.Commands, "took": time.Duration(e.TookSeconds * float64(time.Second)).Round(10 * time.Microsecond).String(),
	}
	if e.AppCount > 0 {
		fields["apps"] = someOf(e.Apps, e.AppCount)
	}
	if e.LineCount > 0 {
		fields["lines"] = e.LineCount
	}
	if e.By != "" {
		fields["by"] = e.By
	}
	if e.Reloaded {
		fields["reload"] = joined(e.Reasons...)
	}
	if len(e.Certificates) > 0 {
		fields["certificates"] = someOf(e.Certificates, len(e.Certificates))
	}
	if len(e.Withheld) > 0 {
		fields["withheld"] = joined(e.Withheld...)
	}
	if e.Note != "" {
		fields["note"] = e.Note
	}
	log := r.log.WithFields(fields)
	switch {
	case e.Error != "":
		log.WithError(errors.New(e.Error)).Warn("change not applied")
	case e.made:
		log.Info("change applied")
	default:
		log.Info("change without effect on HAProxy")
	}
}

// lines keeps the first lines of a difference.
func (e *entry) lines(all []string) {
	e.LineCount = len(all)
	e.Lines = make([]string, 0, min(len(all), keptLines))
	for _, line := range all[:min(len(all), keptLines)] {
		e.Lines = append(e.Lines, bounded(line))
	}
}

// apps keeps the first names of those that a change is about.
func (e *entry) apps(all map[string]bool) {
	e.AppCount = len(all)
	names := slices.Sorted(maps.Keys(all))
	e.Apps = names[:min(len(names), keptApps)]
}

// bounded cuts a text.
func bounded(s string) string {
	if len(s) > keptLine {
		return strings.ToValidUTF8(s[:keptLine], "") + "…"
	}
	return s
}

// someOf names the first few of many.
func someOf(names []string, n int) string {
	text := joined(names[:min(len(names), namedTasks)]...)
	if more := n - namedTasks; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
