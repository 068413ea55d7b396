package marathon

import "signalbox"

// Codes lists every code that reading an app gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB300", Meaning: "The app cannot be read: its JSON is not what Marathon writes. Its last good services stay.", Fix: "Look at the app in Marathon; the message says where reading stopped."},
		{Code: "SB301", Meaning: "A task has no address that can be routed to: it is missing, not an address, forbidden, or a name that does not resolve. The task is not routed to, or keeps its last known address.", Fix: "The message names the task and the reason: mend the host name or the port mapping; --allow-loopback allows loopback addresses."},
		{Code: "SB302", Meaning: "A task has an id that Marathon would not give. It is not routed to.", Fix: "Find out what answers in place of Marathon."},
		{Code: "SB305", Meaning: "The port speaks no TCP. It is not routed.", Fix: "Nothing, if the port is UDP on purpose."},
		{Code: "SB308", Meaning: "The port that a health check or a label asks to probe is not one of the app's, or is not at the task's address, or is one of this machine's own control ports. The port that is routed to is probed in its place.", Fix: "Give the check a portIndex or port that the app has, or mend HAPROXY_N_BACKEND_HEALTHCHECK_PORT_INDEX."},
		{Code: "SB309", Meaning: "The label task-port is for tasks with an address of their own, and this one answers at its agent's, where the port may be another's. The port that Marathon says is used.", Fix: "Have Marathon assign the port (portDefinitions with requirePorts, or hostPort), or run the app in a container network."},
		{Code: "SB329", Meaning: "A label stands twice in a file that `signalbox lint` reads. Marathon takes the last one.", Fix: "Remove one of them."},
	}
}
