// Package control has every effect that HAProxy needs: commands over the runtime socket, files published atomically, checks as
// an unprivileged user, reloads through the master socket with proof, a process to supervise, and an audit of what really runs.
// What should run is decided in package haproxy.
package control
