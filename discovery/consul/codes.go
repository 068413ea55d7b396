package consul

import "signalbox"

// Codes lists every code that reading Consul's catalog gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB320", Meaning: "A service of Consul has a name that no service can have here. It is not routed to.", Fix: "Use letters, digits and - . _ in the name, 128 at most, the first and the last a letter or a digit."},
		{Code: "SB321", Meaning: "Instances of one service carry different labels. Those of the instance that was registered last hold for all.", Fix: "Nothing during a deployment; else register the instances alike, or under names of their own."},
		{Code: "SB322", Meaning: "An instance of a service has no address that can be routed to: it is missing, forbidden, or a name that does not resolve. It is left out, or its last known address stays.", Fix: "Register it with an address and a port that the slaves reach; --allow-loopback allows loopback addresses."},
	}
}
