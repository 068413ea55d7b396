package haproxy

import "signalbox"

// Codes lists every code that Build gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB202", Meaning: "Two services ask for the same service port. It belongs to the older one.", Fix: "Give one of the apps another service port."},
		{Code: "SB203", Meaning: "Two services ask for the same host and path. They belong to the one with the higher priority, of equal ones to the older one; this app is not reached under the name.", Fix: "Change the label of one of the apps; or give both a weight, so that they share the traffic."},
		{Code: "SB204", Meaning: "The service port is none of 1 to 65535, or it is that of one of signalbox's own entries, of the machine or of the cluster (--control-ports). The service has no port of its own.", Fix: "Give the app another service port."},
		{Code: "SB205", Meaning: "The service's id cannot name a backend: it has characters that HAProxy's maps cannot carry, or the name is that of another service's backend. The service is not routed.", Fix: "Give the app another id."},
		{Code: "SB206", Meaning: "A host or path cannot be given to HAProxy. A route is left out; a health check only connects.", Fix: "Write it in plain ASCII, without spaces or control characters. docs/routing.md says what a regular expression may have."},
		{Code: "SB207", Meaning: "Another service asks for a host and path of this app, which keeps them.", Fix: "Change the label of one of the apps; or give both a weight, so that they share the traffic."},
		{Code: "SB208", Meaning: "All apps together have more regular expressions than are tried on a request. Those of the youngest apps are not tried.", Fix: "Write plain hosts, wildcards and paths, of which there may be any number."},
		{Code: "SB209", Meaning: "HAPROXY_N_AUTH of another app is for a host, or a path above this app's. marathon-lb asks for that password here as well; signalbox asks only for an app's own.", Fix: "Give this app HAPROXY_N_AUTH too, if not everybody may enter."},
		{Code: "SB220", Meaning: "A service asks for a list of users that the operator has not given. Nobody may enter.", Fix: "Correct the name, or give the list to signalbox (--user-lists)."},
		{Code: "SB221", Meaning: "The name of a user or the hash of a password has a form that HAProxy cannot compare with. Nobody may enter.", Fix: "Give the hash as crypt(3) writes it, for instance from `openssl passwd -6`: $5$, $6$, $2y$, $y$; not Apache's $apr1$."},
		{Code: "SB222", Meaning: "A service asks for an error page that the operator has not given, or for a status that has none. The page is left out.", Fix: "Correct the name or the status, or give the page to signalbox (--error-pages)."},
		{Code: "SB223", Meaning: "A value of a service's policy cannot be written to HAProxy's configuration. It is left out; one that keeps somebody out keeps everybody out.", Fix: "Correct the label: plain ASCII, no control characters, no header that frames messages."},
		{Code: "SB224", Meaning: "The tasks' certificates are to be verified, but nothing says which name they have to bear.", Fix: "Give the service a host, or the name as rewrite-host."},
		{Code: "SB225", Meaning: "A raw line would not stay within the section of its backend, or would change its servers. It is left out.", Fix: "Say what is wanted by a label, or in a template of the operator's."},
		{Code: "SB226", Meaning: "A service without HTTP asks for a name and a password, which only HTTP can carry. Nobody may enter.", Fix: "Make it an HTTP service, or restrict it by addresses."},
		{Code: "SB230", Meaning: "A label asks for a certificate that the load balancer does not have. The default certificate, which no client trusts, answers for the service's hosts; they are reached by plain HTTP.", Fix: "Put NAME.pem, the chain and its key, into the directory of --certificates, or correct the label."},
		{Code: "SB231", Meaning: "Two services that share a host ask for different certificates, or the older one is content with that which is made out to the host. The older one's is shown.", Fix: "Give both the same certificate."},
		{Code: "SB232", Meaning: "Another service asks for this app's service port. It stays with this app, the older one.", Fix: "Give one of the apps another service port."},
		{Code: "SB233", Meaning: "TLS cannot be passed through to the service under a name: there is no HTTPS entry, the service does not speak TCP, or the name has what a TLS handshake does not carry, such as a path.", Fix: "Start signalbox with --https-bind, or name plain hosts and wildcards only."},
		{Code: "SB234", Meaning: "A service asks that the TLS of a host is passed through to it, and another app has the host too. It belongs to the one with the higher priority, of equal ones to the older one, be it that its TLS is passed through or terminated here.", Fix: "Give one of the apps another host; or give priority to the one that is meant."},
		{Code: "SB236", Meaning: "The service port is to terminate TLS, and the certificate for it is not there. The port is not bound.", Fix: "Put NAME.pem into the directory of --certificates, or correct the label."},
	}
}
