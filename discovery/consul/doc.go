// Package consul reads Consul's catalog: blocking queries say what changed, one for the list of services and one for each service that
// carries labels. An answer that may be old, or comes from a server without a leader, is no news.
package consul
