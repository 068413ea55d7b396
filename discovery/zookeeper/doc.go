// Package zookeeper keeps sessions with a ZooKeeper ensemble, and reads from it where Marathon is: its members, and which of them leads.
package zookeeper
