package metrics

import "time"

// Objective is a service level objective. The zero value is none.
type Objective struct {
	Share   float64       // of good requests, 0 to 1
	Latency time.Duration // within which a request must be answered to be good; 0: an answer below 500 suffices
}
