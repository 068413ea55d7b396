package control

import "signalbox"

// Codes lists every code that the Applier gives, in order.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB235", Meaning: "A file in the directory of --certificates holds no certificate with its key that HAProxy could use. Its last good content stays, if there is one; no other certificate is affected.", Fix: "The message says why. Write the chain, the leaf first, and its unencrypted key into one file in PEM, and move it into its place when it is whole."},
		{Code: "SB237", Meaning: "A list of users or an error page of the operator's is gone or cannot be used. Its last good content stays, if there is one; otherwise it counts as not given.", Fix: "Put a good file into its place, best by moving it there when it is whole. To do without it, remove it and start signalbox again."},
		{Code: "SB401", Meaning: "HAProxy rejects the configuration that the app leads to. The app keeps its last good configuration, or is left out; no other app is affected.", Fix: "The message holds what HAProxy says. Undo the app's last change, and report the message: no label should lead there."},
		{Code: "SB402", Meaning: "A service port is held by another process of the machine, or is to listen on an address that the machine does not have. It is left out, and tried again.", Fix: "End that process, or give the app another service port or address."},
		{Code: "SB403", Meaning: "What the app asks for needs a reload of HAProxy, and its changes have asked for the last reloads one after the other. It waits by itself, so that it holds up nobody else, and goes along with the next reload.", Fix: "Find out what changes the app's labels again and again. A change of its tasks needs no reload."},
	}
}
