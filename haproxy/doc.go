// Package haproxy decides what HAProxy should do: Build turns a table into a Config, Render turns that into files, Diff turns two
// of them into a Plan of runtime commands and reasons to reload. All of it is pure; the effects are in haproxy/control.
package haproxy
