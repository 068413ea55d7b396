package metrics

// Failure is why a request or connection did not go well, and so who failed. The zero value says that it went well.
type Failure uint8

// The failures.
const (
	Fine           Failure = iota
	NoRoute                // no service has the name or path
	Refused                // HAProxy refused: a bad request, a rule
	NoServer               // the service has no task that can be used
	QueueTimeout           // no task had room in time
	ConnectFailed          // the task could not be reached
	ServerClosed           // the task closed before the answer was whole
	ServerTimeout          // the task did not go on in time
	ServerError            // the task answered 500 or more
	ServerDown             // the task went down or away meanwhile
	ClientGone             // the client closed before the answer was whole
	ClientTimeout          // the client did not go on in time
	HAProxyFailure         // HAProxy ran out of something, or failed itself
	failures
)

var failureNames = [failures]string{
	"", "no_route", "refused", "no_server", "queue_timeout", "connect", "server_closed", "server_timeout", "server_error",
	"server_down", "client_gone", "client_timeout", "haproxy",
}

// String returns the word that the metric's label uses, "" for none.
func (f Failure) String() string {
	if f >= failures {
		return Other
	}
	return failureNames[f]
}

// Failure returns why the request or connection did not go well.
func (r *Record) Failure() Failure {
	return failureOf(r.Termination, r.Status, len(r.ServerAddr) > 0, len(r.Service) > 0)
}

// failureOf decides by the termination state, the status (-1: none), whether a server was chosen, and whether a route led to a service.
func failureOf(state [4]byte, status int16, served, routed bool) Failure {
	switch state[0] {
	case 'C':
		return ClientGone
	case 'c':
		return ClientTimeout
	case 'S', 's':
		switch {
		case state[1] == 'Q' && state[0] == 's':
			return QueueTimeout
		case !served:
			return NoServer
		case state[1] == 'C':
			return ConnectFailed
		case state[0] == 's':
			return ServerTimeout
		}
		return ServerClosed
	case 'D', 'K':
		return ServerDown
	case 'R', 'I':
		return HAProxyFailure
	}
	switch {
	case served && status >= 500:
		return ServerError
	case served || status < 400:
		return Fine
	case !routed && status == 404:
		return NoRoute
	case status == 503:
		return NoServer
	}
	return Refused
}

// Words says how a request or connection ended, as a person would: "server closed before sending headers". Normal ends have none.
func (t Termination) Words() string {
	who, ok := map[string]string{
		"client_abort": "client closed", "client_timeout": "client was silent for too long", "server_abort": "server closed",
		"server_timeout": "server was silent for too long", "denied": "HAProxy refused", "local": "HAProxy answered itself",
		"resource": "HAProxy ran out of a resource", "internal": "HAProxy failed", "server_down": "server went down",
		"backup_up": "a better server came up", "killed": "an operator ended the session",
	}[t.Cause]
	if !ok {
		return ""
	}
	when := map[string]string{
		"request": " before the request was whole", "queue": " while the request waited in the queue", "connect": " before the connection stood",
		"headers": " before sending headers", "data": " while the answer was sent", "last": " before the last bytes were sent",
		"tarpit": " while the request was held in the tarpit",
	}[t.Phase]
	if t.Cause == "client_abort" || t.Cause == "client_timeout" {
		if t.Phase == "headers" {
			when = " before the server sent headers"
		}
	}
	if t.Cause == "server_abort" && t.Phase == "connect" {
		return "server refused the connection"
	}
	if t.Cause == "server_timeout" && t.Phase == "queue" {
		return "request waited in the queue for too long"
	}
	return who + when
}
