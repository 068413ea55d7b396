// Package templates holds the texts that signalbox fills in: HAProxy's configuration and the web pages. They are embedded, and an
// operator can replace the former.
package templates

import _ "embed"

// HAProxy is the template of haproxy.cfg. Its own text is what comes before the backends; HAProxyParts define what it uses, and
// "backend", which is executed once for each backend.
//
//go:embed haproxy.cfg.tmpl
var HAProxy string

// HAProxyParts are the definitions that HAProxy stands on, in the order in which they are read.
var HAProxyParts = []Part{{"entries.tmpl", entries}, {"routing.tmpl", routing}, {"backend.tmpl", backend}}

// Part is a named piece of a template.
type Part struct{ Name, Text string }

//go:embed entries.tmpl
var entries string

//go:embed routing.tmpl
var routing string

//go:embed backend.tmpl
var backend string
