// Package statsd takes StatsD from the services of this machine and keeps what they count for a scrape. Lines and mapping files are read
// by statsd_exporter's packages; the sockets, the bounds and the account of what is not taken are ours.
package statsd
