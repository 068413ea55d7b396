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
		{Code: "SB109", Meaning: "The label restricts who may reach the service, which is not enforced here. The service has no way in.", Fix: "Remove the label only if everyone may reach the service."},
		{Code: "SB110", Meaning: "Not a path, or one that could be read in two ways.", Fix: "Write it as requests have it, from the first slash, without dot segments."},
		{Code: "SB111", Meaning: "Not a host name.", Fix: "Write the name alone: letters, digits, hyphens and dots; *.name for every name below."},
		{Code: "SB112", Meaning: "Not a port.", Fix: "Write a number of 1 to 65535, or off."},
		{Code: "SB113", Meaning: "Not a mode.", Fix: "Write http or tcp."},
		{Code: "SB114", Meaning: "Neither true nor false.", Fix: "Write true or false."},
		{Code: "SB115", Meaning: "Not the name of a group.", Fix: "Use letters, digits and - . _ / : in it."},
		{Code: "SB116", Meaning: "The name is reserved on this load balancer.", Fix: "Choose another name."},
		{Code: "SB117", Meaning: "marathon-lb takes a path only beside a VHOST. It is ignored.", Fix: "Add HAPROXY_N_VHOST, or use signalbox.path."},
		{Code: "SB118", Meaning: "A service of mode tcp cannot be told by host or path.", Fix: "Give it a service port, or mode http."},
		{Code: "SB119", Meaning: "The name has a port, which routing by name does not look at. The name is used.", Fix: "Leave the port out."},
	}
}
