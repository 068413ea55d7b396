// Package hub carries what machines have counted to one place, where it adds up exactly: a Pusher on each machine sends the increments since
// its last send that was answered, a Server adds them to one metrics.Aggregator.
package hub
