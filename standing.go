package signalbox

// Standing says how the claim of one service to one route fares among the claims of others.
type Standing struct {
	Service ServiceID
	Route   Route
	Owner   ServiceID // who has the route; several that share it name themselves
	Share   int       // percent of the requests that Service gets
	Why     string    // by what another one has it: "is older"; "" where Service has or shares it
	// Rivals are the other services that claim the route, sorted.
	Rivals []ServiceID
}

// Lost reports whether another service has the route.
func (s *Standing) Lost() bool { return s.Owner != s.Service }
