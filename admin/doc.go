// Package admin is the operator's door: health, version, metrics, profiles, a JSON API that reads, and four orders (accept, hold,
// release, rollback), over a unix socket or over loopback TCP with a token, and the client that the verbs use.
//
// Loopback is not trusted, because tasks share it: over TCP a token is asked for everything except /version and a /health that
// says ok, degraded or failing and no more. A unix socket is guarded by its mode, 0660, and asks for no token. Everything
// but the orders is for GET and HEAD only. An order is a POST of JSON with the token itself; a browser's session gives none.
package admin
