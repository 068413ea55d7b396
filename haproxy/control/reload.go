package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
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

// Free returns an error if another process listens where the entries of HAProxy are to be. HAProxy would not fail: it shares a port
// with any other HAProxy, silently.
func Free(o *haproxy.Options) error {
	var errs []error
	for _, bind := range o.Addresses() {
		network := "tcp"
		if host, _, err := net.SplitHostPort(bind); err == nil && (host == "" || host == "*") {
			network, bind = "tcp4", strings.TrimPrefix(bind, "*")
		}
		ln, err := net.Listen(network, bind)
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			errs = append(errs, fmt.Errorf("another process listens at %s", bind))
		}
	}
	return errors.Join(errs...)
}

// occupied returns why each listener that is not in loaded could not be bound. HAProxy itself would find out only after it had paused
// the running worker's listeners.
func occupied(config, loaded *haproxy.Config) map[int]string {
	out := map[int]string{}
	for _, l := range config.Listeners {
		same, ours := holds(loaded, l)
		if same {
			continue
		}
		host := ""
		switch {
		case l.Address.IsValid():
			host = l.Address.String()
		case config.Options != nil && config.Options.ServiceBind != "*":
			host = config.Options.ServiceBind
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(l.Port)))
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EADDRINUSE) && !ours:
			out[l.Port] = "is held by another process"
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			out[l.Port] = "is to listen on " + host + ", which is no address of this machine"
		}
	}
	return out
}

// holds reports whether HAProxy listens already as l says, and whether it has l's port on any address: nobody can tell then whether
// somebody else has it too.
func holds(loaded *haproxy.Config, l *haproxy.Listener) (same, port bool) {
	if loaded == nil {
		return false, false
	}
	if loaded.Options != nil && loaded.Options.ServicePorts.Has(l.Port) {
		same, port = !l.Address.IsValid(), true
	}
	for _, o := range loaded.Listeners {
		if o.Port == l.Port {
			same, port = o.Address == l.Address, true
		}
	}
	return same, port
}
