package control

import (
	"bufio"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Who only looks at HAProxy's certificates locks them for that time: what is refused meanwhile is asked again, and costs no reload.
func TestCertificatesThatSomebodyLooksAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stats.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked, refusals atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				answer := "Certificate '/c/m.pem' deleted!\n"
				if asked.Add(1) <= refusals.Load() {
					answer = "Can't remove the certificate: Operations on certificates are currently locked!\n"
				}
				_, _ = io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	rt := NewRuntime(path)
	defer rt.Close()
	refusals.Store(3)
	if err := rt.DeleteCertificate(t.Context(), "/c/m.pem"); err != nil || asked.Load() != 4 {
		t.Errorf("after three refusals: asked %d times, %v", asked.Load(), err)
	}
	refusals.Store(1 << 40)
	var unexpected *UnexpectedError
	if err := rt.DeleteCertificate(t.Context(), "/c/m.pem"); !errors.As(err, &unexpected) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("where the lock stays: %v", err)
	}
}
