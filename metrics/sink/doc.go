// Package sink pushes what was counted to StatsD, Graphite and Riemann, at even intervals. Each kind of sink is one file: a pure encoder of
// an interval into frames, and a thin way to a server. Between the two lies a bounded queue, which drops the oldest and counts it:
// no server that is down, slow or hostile holds up counting.
package sink
