// Package admin is the operator's door: health, version, metrics, profiles and a read-only JSON API over a unix socket or over
// loopback TCP with a token, and the client that the verbs use.
//
// Loopback is not trusted, because tasks share it: over TCP a token is asked for everything except /version and a /health that
// says ok, degraded or failing and no more. A unix socket is guarded by its mode, 0660, and asks for no token. Every answer is
// for GET and HEAD only; nothing can be changed from here.
package admin
