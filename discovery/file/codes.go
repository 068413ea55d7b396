package file

import "signalbox"

// Codes lists every code that reading a file of static services gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB310", Meaning: "The file of static services cannot be read: it is missing, empty, too large, or neither YAML nor JSON. The last good services stay.", Fix: "The message names the line; --static names the file."},
		{Code: "SB311", Meaning: "An entry of the file of static services is wrong. The entry's last good service stays; a new one is left out. A field that nobody knows costs itself alone.", Fix: "The message names the line and what is expected there."},
		{Code: "SB312", Meaning: "An address of a static service cannot be routed to: it is forbidden, or a name that does not resolve. It is left out, or its last known address stays.", Fix: "Mend the address or the name server; loopback addresses are allowed here, this program's own entries are not."},
	}
}
