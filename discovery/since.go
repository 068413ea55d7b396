package discovery

import (
	"slices"
	"time"

	"signalbox"
)

// ClaimedSince returns since when a service asks for what it asks for, where before is what it was, or nil. A deploy that asks for
// nothing new does not make it younger: its names would fall to whoever waits for them.
func ClaimedSince(before, now *signalbox.Service) time.Time {
	if before == nil || !before.Since.Before(now.Since) || now.Listen != 0 && now.Listen != before.Listen {
		return now.Since
	}
	for _, r := range now.Routes {
		if _, asked := slices.BinarySearchFunc(before.Routes, r, signalbox.Route.Compare); !asked {
			return now.Since
		}
	}
	return before.Since
}
