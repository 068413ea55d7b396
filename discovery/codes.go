package discovery

import "signalbox"

// Codes lists the codes of conflicts between sources.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB201", Meaning: "Two sources announce the same service. The one whose source comes first is used.", Fix: "Run the app in one place, or leave one of the sources out."},
	}
}
