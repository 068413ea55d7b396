package haproxy

import "signalbox"

// Codes lists every code that Build gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB202", Meaning: "Two services ask for the same service port. It belongs to the older one.", Fix: "Give one of the apps another service port."},
		{Code: "SB203", Meaning: "Two services ask for the same host and path. They belong to the one with the higher priority, of equal ones to the older one; this app is not reached under the name.", Fix: "Change the label of one of the apps; or give both a weight, so that they share the traffic."},
		{Code: "SB204", Meaning: "The service port is none of 1 to 65535, or it is the HTTP entry's own. The service has no port of its own.", Fix: "Give the app another service port."},
		{Code: "SB205", Meaning: "The service's id cannot name a backend: it has characters that HAProxy's maps cannot carry, or the name is that of another service's backend. The service is not routed.", Fix: "Give the app another id."},
		{Code: "SB206", Meaning: "A host or path cannot be given to HAProxy. A route is left out; a health check only connects.", Fix: "Write it in plain ASCII, without spaces or control characters. docs/routing.md says what a regular expression may have."},
		{Code: "SB207", Meaning: "Another service asks for a host and path of this app, which keeps them.", Fix: "Change the label of one of the apps; or give both a weight, so that they share the traffic."},
		{Code: "SB230", Meaning: "A label asks for a certificate that the load balancer does not have. The default certificate, which no client trusts, answers for the service's hosts; they are reached by plain HTTP.", Fix: "Put NAME.pem, the chain and its key, into the directory of --certificates, or correct the label."},
		{Code: "SB231", Meaning: "Two services that share a host ask for different certificates. The older one's is shown.", Fix: "Give both the same certificate."},
	}
}
