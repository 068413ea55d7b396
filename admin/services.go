package admin

// Services is what /api/v1/services answers.
type Services struct {
	APIVersion string        `json:"apiVersion"`
	Services   []ServiceStat `json:"services"` // sorted by Service
}

// ServiceStat is what was counted for one service since the program started. Durations are in seconds; those of a service
// without requests are 0.
type ServiceStat struct {
	Service    string  `json:"service"`
	Requests   uint64  `json:"requests"`
	PerSecond  float64 `json:"perSecond"` // over the last seconds
	Average    float64 `json:"averageSeconds"`
	P50        float64 `json:"p50Seconds"`
	P90        float64 `json:"p90Seconds"`
	P99        float64 `json:"p99Seconds"`
	Errors     uint64  `json:"errors"`     // answers with a status of 500 to 599, whoever made them
	ErrorRatio float64 `json:"errorRatio"` // Errors in Requests, 0 to 1
}

// Render is what /api/v1/render answers.
type Render struct {
	APIVersion string `json:"apiVersion"`
	Files      []File `json:"files"`
}

// File is one file of a rendered configuration.
type File struct {
	Name    string `json:"name"` // relative to HAProxy's directory: "haproxy.cfg", "hosts.map"
	Content string `json:"content"`
}
