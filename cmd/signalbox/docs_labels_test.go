package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"signalbox/discovery/labels"
	"signalbox/haproxy"
)

// docs/labels.md is written from the table that the parser reads.
func TestLabelsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(labelsIntroduction)
	b.WriteString("\n## Every label\n\n| label | value | default | marathon-lb's |\n| --- | --- | --- | --- |\n")
	for _, l := range labels.Table() {
		twin := ""
		if l.Twin != "" {
			twin = "`HAPROXY_N_" + l.Twin + "`"
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s |\n", l.Key, l.Key, cell(l.Type), cell(l.Default), twin)
	}
	for _, l := range labels.Table() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", l.Key, l.Doc)
		fmt.Fprintf(&b, "    \"signalbox.%s\": %s\n\n", l.Key, quoted(l.Example))
		fmt.Fprintf(&b, "- A value that cannot be read: the last good one stays; for an app that had none, %s.\n", l.Invalid)
		if l.EveryPort {
			fmt.Fprintf(&b, "- `signalbox.%s` holds for every port of the app.\n", l.Key)
		}
		if l.HTTP {
			b.WriteString("- For services of mode http.\n")
		}
		if l.Secret {
			b.WriteString("- The value is never shown, neither in a message nor in a log.\n")
		}
	}
	b.WriteString(marathonLBIntroduction)
	b.WriteString("| label | native | what it says | differs from marathon-lb in that |\n| --- | --- | --- | --- |\n")
	for _, l := range labels.MarathonLB() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", l.Name, links(l.Native), cell(l.Meaning), cell(l.Deviation))
	}
	compareDocs(t, "labels.md", b.String())
}

// What the labels call their defaults is what the template has.
func TestDefaultsOfLabelsAreTheTemplates(t *testing.T) {
	o := &haproxy.Options{Dir: "/d", HTTPBind: []string{":80"}, ServiceBind: "*", StatsSocket: "/d/stats.sock"}
	files, err := haproxy.Render(haproxy.DefaultTemplate(), haproxy.Build(nil, o, nil))
	if err != nil {
		t.Fatal(err)
	}
	template := string(files.Config)
	for key, line := range map[string]string{
		"balance": "balance roundrobin", "timeout": "timeout server 60s", "connect-timeout": "timeout connect 4s", "retries": "retries 3", "health-interval": "inter 2s",
	} {
		i := slices.IndexFunc(labels.Table(), func(l labels.Label) bool { return l.Key == key })
		value := line[strings.LastIndexByte(line, ' ')+1:]
		if !strings.Contains(template, line) || !strings.Contains(labels.Table()[i].Default, value) {
			t.Errorf("%s: the template has no %q, or the label's default (%s) is not %s", key, line, labels.Table()[i].Default, value)
		}
	}
}

// links returns links to the sections of native labels.
func links(keys []string) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = "[`" + k + "`](#" + k + ")"
	}
	return strings.Join(out, ", ")
}

// quoted returns a string as JSON has it, for people: what HTML would escape stays.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

const labelsIntroduction = `# Labels

What an app says beside itself, in its Marathon labels, decides how it is reached. There are two dialects: signalbox's own, and
[marathon-lb's](#marathon-lbs-labels); ` + "`--labels signalbox,haproxy`" + ` says which are read. ` + "`signalbox lint FILE`" + ` tells what the labels of
an app will do before it is posted, ` + "`signalbox why APP`" + ` what became of them. Labels of others are left alone.

    "labels": {
      "signalbox.host": "shop.example.com",
      "signalbox.path": "/cart",
      "signalbox.https-redirect": "true",
      "signalbox.1.port": "9000",
      "signalbox.admin.allow": "10.0.0.0/8"
    }

## Three forms

| form | what it is about |
| --- | --- |
| ` + "`signalbox.KEY`" + ` | the first port of the app, or every one, as the label says below |
| ` + "`signalbox.N.KEY`" + ` | the port with index N, counted from 0 |
| ` + "`signalbox.NAME.KEY`" + ` | the port of that name |

A label may also stand beside the port itself, in its definition's ` + "`labels`" + `, as ` + "`signalbox.KEY`" + `.

Of several labels that say something of the same port, one holds: the port's own goes before ` + "`signalbox.N.KEY` and `signalbox.NAME.KEY`" + `,
these before ` + "`signalbox.KEY`, that before `HAPROXY_N_X`, and that before `HAPROXY_X`" + `. What the winner says holds alone: lists are not merged.

A port that nobody asks a way in for is no service. With ` + "`--strict`" + ` only ports are whose label ` + "`enable`" + ` is true.

## Values

- Keys are written in lower case, with hyphens. White space around a value is left out, and so are characters that cannot be seen.
- A bool is ` + "`true`, `false`, `on`, `off`, `yes`, `no`, `1` or `0`" + `.
- Items of a list are separated by commas or spaces, at most 256 in 32 KiB. An app has at most 4,096 routes, each of its hosts with each
  of its paths, and 64 regular expressions.
- A time is a number with a unit, ` + "`250ms`, `30s`, `5m`, `1h30m`" + `, in whole milliseconds.
- A host name is written as in a URL, in any case, international names too. ` + "`*.x`" + ` holds for every name one level below x.
- A path starts with a slash and can be read in one way only: no empty and no dot segments, no encoded slashes, dots or controls.

A value becomes a typed setting or nothing at all: no text of a label ever becomes configuration.

### Regular expressions

A host that begins with ` + "`~`, and each path where `path-match` is `regex`" + `, is a regular expression of at most 200 characters that must
match the whole host (in lower case, without port) or the whole path; anchors at its ends may be written and change nothing. It ends at
a space, so that it may hold commas. What it may hold is what engines agree on and match quickly: [routing.md](routing.md#regular-expressions)
tells.

## What wins

An exact host goes before a wildcard, that before a regular expression, that before ` + "`*`" + `. Under the host that holds, an exact path goes before
a regular expression, that before the longest prefix. There is no falling through: a known host without a matching path answers 404.
Several regular expressions that match, and several services that claim one host and path, are ordered by ` + "`priority`" + `, then age, then name;
services that each have a ` + "`weight`" + ` share what they claim.

## What is wrong costs one label

A value that cannot be read, or one item of a list, costs that label or item and no more; the last good value stays in force where the app
had one. It is a [problem](problems.md) with a code, to be seen in ` + "`signalbox routes`, `why`" + `, the log and the metrics.

Labels that restrict who may enter, ` + "`allow` and `auth`" + `, fail closed: where they cannot be read and no last good value stays, the service
answers 403 to everybody, on every way in. One bad item costs a whole ` + "`allow`" + ` list, for what stands beside it may be its other half.
The same holds where such a label does not reach what it is about: it is for a port that the app does not have or that cannot be routed to,
or its name is nearly, but not quite, that of one of the two. It closes every port that it may be meant for, but those with such a label of
their own that is as strong.
`

const marathonLBIntroduction = `
## marathon-lb's labels

Apps that were written for marathon-lb are read as they are. N is the index of the port. An app that has any of these labels also has
its service ports bound on every slave, as there (see ` + "`--service-ports`" + `).

`
