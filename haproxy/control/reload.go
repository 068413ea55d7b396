package control

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"signalbox/haproxy"
)

// whileItLives returns a context that also ends when the supervised HAProxy does: nothing is to be proven of the dead.
func (a *Applier) whileItLives(ctx context.Context) context.Context {
	s := a.cfg.Supervisor
	if s == nil {
		return ctx
	}
	deaths := s.deaths.Load()
	live, end := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-live.Done():
				return
			case <-tick.C:
				if s.deaths.Load() != deaths {
					end(errors.New("HAProxy ended meanwhile"))
					return
				}
			}
		}
	}()
	return live
}

// occupied returns the ports of listeners that are not in loaded and that somebody else holds. HAProxy itself would find out only
// after it had paused the running worker's listeners.
func occupied(config, loaded *haproxy.Config) []int {
	var out []int
	for _, l := range config.Listeners {
		if loaded != nil && slices.ContainsFunc(loaded.Listeners, func(o *haproxy.Listener) bool { return o.Port == l.Port }) {
			continue
		}
		host := ""
		if config.Options != nil && config.Options.ServiceBind != "*" {
			host = config.Options.ServiceBind
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(l.Port)))
		if err == nil {
			_ = ln.Close()
		} else if errors.Is(err, syscall.EADDRINUSE) {
			out = append(out, l.Port)
		}
	}
	return out
}
