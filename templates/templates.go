// Package templates holds the texts that signalbox fills in: HAProxy's configuration and the web pages. They are embedded, and an
// operator can replace the former.
package templates

import _ "embed"

// HAProxy is the template of haproxy.cfg. Its own text is what comes before the backends; it defines "backend", which is
// executed once for each backend.
//
//go:embed haproxy.cfg.tmpl
var HAProxy string
