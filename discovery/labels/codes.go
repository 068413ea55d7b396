package labels

// Code is a kind of problem with labels. Its number never changes its meaning.
type Code struct {
	Code    string
	Meaning string
	Fix     string
}

// Codes lists every code that Parse gives, in order.
func Codes() []Code {
	return []Code{
		{"SB101", "A name or value holds characters that cannot be seen: zero-width or no-break spaces. They are left out.", "Type the label anew."},
		{"SB102", "No dialect has a label of this name. It is ignored.", "Take the name that the problem suggests."},
		{"SB103", "The label is for a port that the app does not have. It is ignored.", "Name a port of the app, by its index or its name."},
		{"SB104", "The label is for a port that cannot be routed to, such as a UDP port. It is ignored.", "Name a TCP port."},
		{"SB105", "The label asks for a route, and the app has no port that can be routed to.", "Give the app a port."},
		{"SB106", "The value is too long, or holds too many items.", "Shorten it, or split it over several ports."},
		{"SB107", "The value is empty.", "Give it a value, or remove the label."},
		{"SB108", "A label of marathon-lb that has no effect here.", "Remove it once the app has left marathon-lb."},
		{"SB109", "The label restricts who may reach the service, which is not enforced here. The service has no way in.", "Remove the label only if everyone may reach the service."},
		{"SB110", "Not a path, or one that could be read in two ways.", "Write it as requests have it, from the first slash, without dot segments."},
		{"SB111", "Not a host name.", "Write the name alone: letters, digits, hyphens and dots; *.name for every name below."},
		{"SB112", "Not a port.", "Write a number of 1 to 65535, or off."},
		{"SB113", "Not a mode.", "Write http or tcp."},
		{"SB114", "Neither true nor false.", "Write true or false."},
		{"SB115", "Not the name of a group.", "Use letters, digits and - . _ / : in it."},
		{"SB116", "The name is reserved on this load balancer.", "Choose another name."},
		{"SB117", "marathon-lb takes a path only beside a VHOST. It is ignored.", "Add HAPROXY_N_VHOST, or use signalbox.path."},
		{"SB118", "A service of mode tcp cannot be told by host or path.", "Give it a service port, or mode http."},
		{"SB119", "The name has a port, which routing by name does not look at. The name is used.", "Leave the port out."},
	}
}
