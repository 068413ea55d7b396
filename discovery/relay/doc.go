// Package relay lets one controller of a fleet read for all: it is elected through a Store (Consul, ZooKeeper), runs the direct source, and
// publishes what that says; the others follow. A controller whose relay is stale, wrong or gone reads for itself until it heals.
package relay
