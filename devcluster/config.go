package devcluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
)

// Config is what a Server needs. The zero value works: an own port of 127.0.0.1, Marathon 1.11, one agent.
type Config struct {
	// Listen is the API's address; "" is 127.0.0.1:0. An address that is not loopback is refused without a Token.
	Listen string
	// Emulate is "1.11", the default, or "1.4".
	Emulate string
	// Agents are the simulated agents' addresses, which are their hostnames too; nil is 127.0.0.1.
	Agents []string
	// RemoteAgents are the URLs of agents on other machines, which "signalbox devcluster agent" runs there; they take the place of
	// Agents. Tasks on them outlive the server, and one with the same kept state takes them over.
	RemoteAgents []string
	// AgentToken is what the agents on other machines ask for, AgentTLS whom to trust when they are https.
	AgentToken string
	AgentTLS   *tls.Config
	// Dir is where sandboxes and, with Persist, the state are kept; "" is a temporary directory that goes with the server.
	Dir string
	// Persist keeps apps, pods and groups in Dir/state across restarts; their tasks are launched again.
	Persist bool
	// TaskKilling is Marathon's feature of that name: a task that is being killed is TASK_KILLING.
	TaskKilling bool
	// Username and Password ask for basic authentication on everything, as --http_credentials does.
	Username, Password string
	// Token, as "Authorization: Bearer …" or "token=…", is asked for on everything.
	Token string
	// Heartbeat is the event stream's; 0 means 10 s.
	Heartbeat time.Duration
	// EventBuffer is how many events wait for a slow client before it is disconnected; 0 means 1024.
	EventBuffer int
	// Virtual runs no processes: one server answers for all tasks.
	Virtual bool
	// MaxConcurrentRequests answers 503 to more requests than these at a time; 0 is no limit.
	MaxConcurrentRequests int
	// StandbyListen are the addresses of further Marathons of the same cluster.
	StandbyListen []string
	// StandbyMode is what a standby does with the event stream: "redirect", the default, as from 1.7 on, or "proxy" as before.
	StandbyMode string
	// PortMin and PortMax bound the host ports of tasks, 0 means 31000 and 32000.
	PortMin, PortMax int
	// Linger is for how long a virtual task answers after it was killed.
	Linger time.Duration
	// OwnListeners lets every virtual task listen for itself, so that connections are refused where one has ended.
	OwnListeners bool
	// Log takes what happens; nil discards it.
	Log logrus.FieldLogger
}

func (c Config) withDefaults() (Config, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	switch c.Emulate {
	case "":
		c.Emulate = "1.11"
	case "1.4", "1.11":
	default:
		return c, fmt.Errorf("emulating Marathon %q: only 1.4 and 1.11 are known", c.Emulate)
	}
	if err := c.agents(); err != nil {
		return c, err
	}
	switch c.StandbyMode {
	case "":
		c.StandbyMode = "redirect"
	case "redirect", "proxy":
	default:
		return c, fmt.Errorf("standby mode %q: it is redirect or proxy", c.StandbyMode)
	}
	if c.Persist && c.Dir == "" {
		return c, errors.New("keeping state across restarts needs a directory")
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 10 * time.Second
	}
	if c.EventBuffer <= 0 {
		c.EventBuffer = 1024
	}
	if c.PortMin == 0 && c.PortMax == 0 {
		c.PortMin, c.PortMax = 31000, 32000
	}
	if c.PortMin < 1 || c.PortMax > 65535 || c.PortMin > c.PortMax {
		return c, fmt.Errorf("host ports %d to %d: no such range", c.PortMin, c.PortMax)
	}
	for _, l := range append([]string{c.Listen}, c.StandbyListen...) {
		if err := mayListen(l, c.Token); err != nil {
			return c, err
		}
	}
	if c.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		c.Log = l
	}
	return c, nil
}

// agents checks the agents, whose addresses are in Agents afterwards.
func (c *Config) agents() error {
	if len(c.RemoteAgents) > 0 {
		if len(c.Agents) > 0 || c.Virtual {
			return errors.New("agents on other machines exclude simulated ones and virtual tasks")
		}
		var err error
		c.Agents, err = remoteHosts(c.RemoteAgents)
		return err
	}
	if len(c.Agents) == 0 {
		c.Agents = []string{"127.0.0.1"}
	}
	seen := map[string]bool{}
	for _, a := range c.Agents {
		ip, err := netip.ParseAddr(a)
		if err != nil || !ip.IsLoopback() || !ip.Is4() {
			return fmt.Errorf("agent %q: an agent is an address of 127.0.0.0/8", a)
		}
		if seen[a] {
			return fmt.Errorf("agent %q is given twice", a)
		}
		seen[a] = true
	}
	return nil
}

// mayListen refuses an address that others than this machine reach, unless a token guards it: who reaches the API runs commands.
func mayListen(addr, token string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listening on %q: %w", addr, err)
	}
	if token != "" || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("listening on %q: whoever reaches this API runs commands; an address that is not loopback needs a token", addr)
	}
	return nil
}
