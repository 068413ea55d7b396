package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

// ownServer is what one virtual task listens with, where each does for itself.
type ownServer struct {
	app       string // of the task
	server    *http.Server
	listeners []net.Listener
	served    bool        // otherwise connections wait
	leaving   atomic.Bool // each connection ends with its next answer
	retired   bool
}

// unfinished bounds how long what ends all at once waits for the answers it has begun.
const unfinished = time.Second

// listenFor opens listeners on free ports of a task's address.
func (v *Virtual) listenFor(t *virtualTask, ports int) (*ownServer, error) {
	o := &ownServer{server: &http.Server{ReadHeaderTimeout: v.server.ReadHeaderTimeout, IdleTimeout: v.server.IdleTimeout}}
	for range ports {
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp4", net.JoinHostPort(address(t.offset).String(), "0"))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening for a virtual task: %w", err), o.close())
		}
		o.listeners = append(o.listeners, l)
	}
	o.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Idle connections stay open meanwhile: closed under a proxy that is about to use one, they would fail a request.
		if o.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		v.say(w, r, t.id, o.app)
	})
	return o, nil
}

func (o *ownServer) ports() (all []int) {
	for _, l := range o.listeners {
		all = append(all, l.Addr().(*net.TCPAddr).Port)
	}
	return all
}

func (o *ownServer) close() error {
	var errs []error
	for _, l := range o.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// serve answers on all of a task's ports.
func (v *Virtual) serve(o *ownServer, app string) {
	o.app, o.served = app, true
	for _, l := range o.listeners {
		v.serving.Go(func() {
			if err := o.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				v.cfg.Log.WithError(err).Error("a virtual task answers no more on one port")
			}
		})
	}
}

// retire closes the listeners at once, idle connections after them, and the rest when its answers are whole, or at a time. The lock is held.
func (v *Virtual) retire(o *ownServer, until time.Time) {
	if o.retired {
		return
	}
	o.retired = true
	if !o.served {
		_ = o.close() // nobody has asked there
		return
	}
	v.serving.Go(func() {
		ctx, cancel := context.WithDeadline(v.ending, until)
		defer cancel()
		if o.server.Shutdown(ctx) != nil {
			_ = o.server.Close() // the listeners are closed already, and clients see what they see
		}
	})
}

// echo turns a request into a web socket that returns every message. It lasts until the client ends it, or the task.
func (v *Virtual) echo(w http.ResponseWriter, r *http.Request, task, app string) {
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			c.Header = http.Header{"X-Task": {task}, "X-App": {app}}
			return nil
		},
		Handler: func(c *websocket.Conn) {
			if !v.hold(task, c) {
				return
			}
			defer v.release(task, c)
			_, _ = io.Copy(c, c) // it ends as the client or the task wants
		},
	}.ServeHTTP(w, r)
}

// cut ends a web socket, as the end of a process does. What its client makes of that is its own affair.
func cut(c *websocket.Conn) {
	_ = c.SetDeadline(time.Now().Add(unfinished))
	_ = c.Close()
}

// hold notes a web socket of a task; false when the task has ended meanwhile.
func (v *Virtual) hold(task string, c *websocket.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tasks[task]
	if t == nil || v.closed {
		return false
	}
	if t.sockets == nil {
		t.sockets = make(map[*websocket.Conn]struct{})
	}
	t.sockets[c] = struct{}{}
	v.serving.Add(1)
	return true
}

// release forgets a web socket, and with the last one of a task that only waits for them the task.
func (v *Virtual) release(task string, c *websocket.Conn) {
	defer v.serving.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tasks[task]
	if t == nil {
		return
	}
	delete(t.sockets, c)
	if t.state == closing && len(t.sockets) == 0 && !v.closed {
		v.end(t)
	}
}
