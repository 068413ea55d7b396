package haproxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"signalbox/templates"
)

// Clients that send their request bit by bit are turned away in time, however many, and others are served meanwhile. What takes ten
// seconds as delivered takes one here.
func TestHAProxyTurnsSlowClientsAway(t *testing.T) {
	hasty := templates.HAProxy
	for _, timeout := range []string{"http-request", "http-keep-alive"} {
		if !strings.Contains(hasty, "timeout "+timeout+" 10s\n") {
			t.Fatalf("the template has another timeout %s", timeout)
		}
		hasty = strings.Replace(hasty, "timeout "+timeout+" 10s\n", "timeout "+timeout+" 1s\n", 1)
	}
	tmpl, err := ParseTemplate("hasty", hasty)
	if err != nil {
		t.Fatal(err)
	}
	l := startTemplate(t, tmpl, tableOf(service("/shop", "h/", task(t, "shop"))), func(*Options) {})
	const clients = 200
	ended := make(chan string, clients+1)
	began := time.Now()
	for range clients {
		go func() {
			c, err := net.Dial("tcp", l.entry)
			if err != nil {
				ended <- err.Error()
				return
			}
			defer c.Close()
			_ = c.SetDeadline(began.Add(20 * time.Second))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nX: ")
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
						_, _ = io.WriteString(c, "x")
					}
				}
			}()
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				ended <- err.Error()
				return
			}
			r.Body.Close()
			ended <- r.Status
		}()
	}
	go func() { // one that keeps its connection, and asks for nothing more
		c, err := net.Dial("tcp", l.entry)
		if err != nil {
			ended <- err.Error()
			return
		}
		defer c.Close()
		_ = c.SetDeadline(began.Add(20 * time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		_, err = io.Copy(io.Discard, c)
		if err != nil {
			ended <- err.Error()
			return
		}
		ended <- "408 Request Time-out" // it was closed, as it should be
	}()
	for range 20 {
		if code, body := l.get("h", "/"); code != 200 {
			t.Errorf("meanwhile: %d %s", code, body)
		}
	}
	for range clients + 1 {
		if how := <-ended; how != "408 Request Time-out" {
			t.Errorf("a slow client ended with %s", how)
		}
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the slow clients were turned away after %s", took)
	}
}
