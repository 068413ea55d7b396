package agent

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// dialSocket opens a web socket at a place, and sees that it echoes.
func dialSocket(t *testing.T, addr string, port int) *websocket.Conn {
	t.Helper()
	at := net.JoinHostPort(addr, strconv.Itoa(port))
	c, err := websocket.Dial("ws://"+at+"/any", "", "http://"+at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	echoes(t, c)
	return c
}

func echoes(t *testing.T, c *websocket.Conn) {
	t.Helper()
	var got string
	if err := errors.Join(websocket.Message.Send(c, "hello"), websocket.Message.Receive(c, &got)); err != nil || got != "hello" {
		t.Fatalf("%q came back: %v", got, err)
	}
}

// A task with listeners of its own answers while it lingers, waits for its web sockets, and is gone after that.
func TestOwnListenersEndWithTheirTask(t *testing.T) {
	v, w := startVirtual(t, Config{OwnListeners: true, Linger: 50 * time.Millisecond})
	type place struct {
		addr string
		port int
	}
	places := map[string]place{}
	for _, id := range []string{"a.1", "a.2"} {
		addr, ports, err := v.Place(id, 2)
		if err != nil || len(ports) != 2 {
			t.Fatal(ports, err)
		}
		if again, same, err := v.Place(id, 2); err != nil || again != addr || same[0] != ports[0] {
			t.Errorf("a second Place gives %s %v, not %s %v: %v", again, same, addr, ports, err)
		}
		if err := v.Launch(Spec{ID: id, App: "/a", Addr: addr, Ports: ports}); err != nil {
			t.Fatal(err)
		}
		places[id] = place{addr, ports[1]}
		if code, task, _ := get(t, addr, ports[1]); code != 200 || task != id {
			t.Errorf("%s answers %d as %q", id, code, task)
		}
	}
	first := places["a.1"]
	socket := dialSocket(t, first.addr, first.port)
	v.Kill("a.1", time.Hour)
	for begun := time.Now(); ; {
		c, err := net.Dial("tcp", net.JoinHostPort(first.addr, strconv.Itoa(first.port)))
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			c.Close()
		}
		if time.Since(begun) > patience {
			t.Fatalf("a task that has ended is not refused: %v", err)
		}
	}
	echoes(t, socket)
	if s := w.states("a.1"); len(s) != 2 {
		t.Errorf("it is reported as %v while a web socket is open", s)
	}
	socket.Close()
	w.until(t, "a.1", Killed)
	if code, _, _ := get(t, places["a.2"].addr, places["a.2"].port); code != 200 {
		t.Errorf("its neighbour answers %d", code)
	}
}

// A task's grace ends its web sockets too, whichever way it listens.
func TestGraceEndsWebSockets(t *testing.T) {
	for _, own := range []bool{false, true} {
		v, w := startVirtual(t, Config{OwnListeners: own})
		addr, ports, err := v.Place("a.1", 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Launch(Spec{ID: "a.1", App: "/a", Addr: addr, Ports: ports}); err != nil {
			t.Fatal(err)
		}
		socket := dialSocket(t, addr, ports[0])
		v.Kill("a.1", 100*time.Millisecond)
		w.until(t, "a.1", Killed)
		var got string
		if err := websocket.Message.Receive(socket, &got); err == nil {
			t.Errorf("own listeners %v: the web socket goes on", own)
		}
	}
}
