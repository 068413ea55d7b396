package signalbox

// Codes lists the codes of what an operator's hold keeps back, in order.
func Codes() []Code {
	return []Code{
		{Code: "SB501", Meaning: "An app, or a port of it, came while an operator holds it or everything. It is not routed.", Fix: "`signalbox hold` says who holds what, and why. `signalbox hold --release` lets it in."},
		{Code: "SB502", Meaning: "The definition of an app differs from the one that an operator holds, or has rolled back to. The names, the policy and the check of before hold, for the tasks of now.", Fix: "Put the app right, then `signalbox hold --release --app ID`."},
		{Code: "SB503", Meaning: "An app, or a port of it, left while an operator holds it. Its names stay, and answer 503.", Fix: "`signalbox hold --release` takes its names away."},
	}
}
