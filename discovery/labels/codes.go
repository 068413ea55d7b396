package labels

import "signalbox"

// Codes lists every code that Parse gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB101", Meaning: "A name or value holds characters that cannot be seen: zero-width or no-break spaces. They are left out.", Fix: "Type the label anew."},
		{Code: "SB102", Meaning: "No dialect has a label of this name. It is ignored.", Fix: "Take the name that the problem suggests."},
		{Code: "SB103", Meaning: "The label is for a port that the app does not have. It is ignored.", Fix: "Name a port of the app, by its index or its name."},
		{Code: "SB104", Meaning: "The label is for a port that cannot be routed to, such as a UDP port. It is ignored.", Fix: "Name a TCP port."},
		{Code: "SB105", Meaning: "The label asks for a route, and the app has no port that can be routed to.", Fix: "Give the app a port."},
		{Code: "SB106", Meaning: "The value is too long, or holds too many items.", Fix: "Shorten it, or split it over several ports."},
		{Code: "SB107", Meaning: "The value is empty.", Fix: "Give it a value, or remove the label."},
		{Code: "SB108", Meaning: "A label of marathon-lb that has no effect here.", Fix: "Remove it once the app has left marathon-lb."},
		{Code: "SB110", Meaning: "Not a path, or one that could be read in two ways.", Fix: "Write it as requests have it, from the first slash, without dot segments."},
		{Code: "SB111", Meaning: "Not a host name.", Fix: "Write the name alone: letters, digits, hyphens and dots; *.name for every name below."},
		{Code: "SB112", Meaning: "Not a port.", Fix: "Write a number of 1 to 65535; on for the service port that Marathon assigned; or off."},
		{Code: "SB113", Meaning: "Not a mode.", Fix: "Write http or tcp."},
		{Code: "SB114", Meaning: "Neither true nor false.", Fix: "Write true or false."},
		{Code: "SB115", Meaning: "Not the name of a group.", Fix: "Use letters, digits and - . _ / : in it."},
		{Code: "SB116", Meaning: "The name is reserved on this load balancer.", Fix: "Choose another name."},
		{Code: "SB117", Meaning: "marathon-lb takes a path only beside a VHOST. It is ignored.", Fix: "Add HAPROXY_N_VHOST, or use signalbox.path."},
		{Code: "SB118", Meaning: "A service of mode tcp cannot be told by host or path.", Fix: "Give it a service port, or mode http."},
		{Code: "SB119", Meaning: "The name has a port, which routing by name does not look at. The name is used.", Fix: "Leave the port out."},
		{Code: "SB120", Meaning: "Not a regular expression, or one that engines read in different ways or may take very long to match.", Fix: "Write plain text, classes, groups and choices; repeat single characters only. docs/labels.md says what may stand in one."},
		{Code: "SB121", Meaning: "Not one of the choices that the label has.", Fix: "Write one of those that the problem names."},
		{Code: "SB122", Meaning: "Not a time, or one out of bounds.", Fix: "Write a number with a unit: 250ms, 30s, 5m, 1h."},
		{Code: "SB123", Meaning: "Not a number, or one out of bounds.", Fix: "Write a whole number within the bounds that the problem names."},
		{Code: "SB124", Meaning: "The value is out of bounds. The nearest bound holds.", Fix: "Write a value within the bounds."},
		{Code: "SB125", Meaning: "Not an IP address or a network, or a network with bits beyond its length. Where the label says who may enter, nobody may, or those of the last good list.", Fix: "Write addresses and networks such as 10.0.0.0/8, separated by comma or space."},
		{Code: "SB126", Meaning: "Neither a list of users nor realm:user:hash. Nobody may enter, or those of the last good value.", Fix: "Name a list of users, or make a hash with mkpasswd -m sha-512. The value is never shown."},
		{Code: "SB127", Meaning: "Not a rate.", Fix: "Write requests per time: 100/s, 30/10s, 1000/m."},
		{Code: "SB128", Meaning: "Not a header field that may be set.", Fix: "Write Name: value, each on a line of its own. Host, X-Forwarded-* and the like are set by the load balancer."},
		{Code: "SB129", Meaning: "Not an origin.", Fix: "Write scheme://host or scheme://host:port, as browsers send it; or * alone."},
		{Code: "SB130", Meaning: "Not an error page.", Fix: "Write status=name, the name being that of a page that the operator has given: 503=sorry."},
		{Code: "SB131", Meaning: "Not a name.", Fix: "Use letters, digits and - . _ in it."},
		{Code: "SB132", Meaning: "Not a text or address that can be shown.", Fix: "Write plain text of one line; an address with http or https."},
		{Code: "SB134", Meaning: "The label has no effect beside the others. It is ignored.", Fix: "Remove it, or what the problem names."},
		{Code: "SB135", Meaning: "The label contradicts another one.", Fix: "Remove one of them."},
		{Code: "SB136", Meaning: "Not an objective.", Fix: "Write a share, and a time after a <: 99.9% < 250ms."},
	}
}
