package metrics

// Termination is how a request or connection ended, in the words of metrics: who ended it, and in which phase.
type Termination struct {
	Cause string // "normal", "client_abort", "server_abort", …
	Phase string // "request", "queue", "connect", "headers", "data", "last", "tarpit" or "none"
}

// causes and phases hold the first two letters of HAProxy's termination state in the order of their place in the counters.
var (
	causes = []struct {
		letter byte
		word   string
	}{
		{'-', "normal"},
		{'C', "client_abort"},
		{'S', "server_abort"},
		{'P', "denied"},
		{'L', "local"},
		{'R', "resource"},
		{'I', "internal"},
		{'D', "server_down"},
		{'U', "backup_up"},
		{'K', "killed"},
		{'c', "client_timeout"},
		{'s', "server_timeout"},
		{0, "other"},
	}
	phases = []struct {
		letter byte
		word   string
	}{
		{'-', "none"},
		{'R', "request"},
		{'Q', "queue"},
		{'C', "connect"},
		{'H', "headers"},
		{'D', "data"},
		{'L', "last"},
		{'T', "tarpit"},
		{0, "other"},
	}
	causeIndex, phaseIndex = indexLetters()
)

func indexLetters() (c, p [256]uint8) {
	for i := range c {
		c[i], p[i] = uint8(len(causes)-1), uint8(len(phases)-1)
	}
	for i, x := range causes[:len(causes)-1] {
		c[x.letter] = uint8(i)
	}
	for i, x := range phases[:len(phases)-1] {
		p[x.letter] = uint8(i)
	}
	return c, p
}

// terminationCount is how many combinations of cause and phase there are.
const terminationCount = 13 * 9

func terminationIndex(state [4]byte) int {
	return int(causeIndex[state[0]])*9 + int(phaseIndex[state[1]])
}

func terminationAt(i int) Termination {
	return Termination{Cause: causes[i/9].word, Phase: phases[i%9].word}
}

// DecodeTermination puts HAProxy's termination state ("SC--") into words.
func DecodeTermination(state [4]byte) Termination { return terminationAt(terminationIndex(state)) }

// methods are those that series tell apart; every other one counts under "other".
var methods = [...]string{"other", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "tcp"}

const (
	methodGET = 1
	methodTCP = len(methods) - 1
)

func methodIndex(m []byte) int {
	switch string(m) {
	case "GET":
		return 1
	case "HEAD":
		return 2
	case "POST":
		return 3
	case "PUT":
		return 4
	case "PATCH":
		return 5
	case "DELETE":
		return 6
	case "OPTIONS":
		return 7
	case "CONNECT":
		return 8
	case "TRACE":
		return 9
	}
	return 0
}
