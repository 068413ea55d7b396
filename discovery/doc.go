// Package discovery turns what several sources say into one table. A Source adapts one origin (Marathon, Consul, a file); the
// Watcher keeps the last good state of each, holds suspicious ones back until they are confirmed, and merges.
package discovery
