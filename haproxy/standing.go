package haproxy

import (
	"cmp"
	"slices"

	"signalbox"
)

// Standings returns how each claim to a route fares, in the order of names and routes; those to the TLS of hosts come last. A Config that was read back from disk has none.
func (c *Config) Standings() []signalbox.Standing {
	claims := c.made.claims
	out := make([]signalbox.Standing, 0, len(claims))
	for i := 0; i < len(claims); {
		j := i + 1
		for j < len(claims) && claims[j].name == claims[i].name && claims[j].route == claims[i].route {
			j++
		}
		out = append(out, standings(claims[i:j])...)
		i = j
	}
	return append(out, c.made.passed...)
}

// standings returns how the claims to one route fare; the one with the best right comes first.
func standings(claims []*claim) []signalbox.Standing {
	out := make([]signalbox.Standing, len(claims))
	split := len(claims) > 1 && shared(claims)
	var parts []int
	if split {
		claims = slices.SortedFunc(slices.Values(claims), func(a, b *claim) int { return cmp.Compare(a.service, b.service) })
		parts = shares(claims)
	}
	for i, cl := range claims {
		s := signalbox.Standing{Service: cl.service, Route: cl.route, Owner: claims[0].service}
		switch {
		case split:
			s.Owner, s.Share = cl.service, parts[i]*100/buckets
		case i == 0:
			s.Share = 100
		default:
			s.Why = claims[0].why(cl)
		}
		for _, other := range claims {
			if other != cl {
				s.Rivals = append(s.Rivals, other.service)
			}
		}
		slices.Sort(s.Rivals)
		out[i] = s
	}
	return out
}
