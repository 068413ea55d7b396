package devcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox/devcluster/agent"
)

// MachineConfig is what a Machine needs.
type MachineConfig struct {
	// Listen is where masters come to. An address that is not loopback is refused without a Token.
	Listen string
	// Token is what masters must show.
	Token string
	// Certificate makes it https.
	Certificate *tls.Certificate
	// Dir is where the sandboxes are; "" is the directory for temporary files.
	Dir string
	// Log takes what happens.
	Log logrus.FieldLogger
}

// Machine is an agent of its own process, for a Server elsewhere that has its URL among its RemoteAgents.
type Machine struct {
	host    *agent.Host
	http    *http.Server
	url     string
	serving sync.WaitGroup
}

// StartMachine starts an agent, which listens when StartMachine returns. It runs until Close.
func StartMachine(ctx context.Context, cfg MachineConfig) (*Machine, error) {
	if err := mayListen(cfg.Listen, cfg.Token); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for masters: %w", err)
	}
	h, err := agent.NewHost(agent.Config{Dir: cfg.Dir, Log: cfg.Log}, cfg.Token)
	if err != nil {
		l.Close()
		return nil, err
	}
	m := &Machine{host: h, url: "http://" + l.Addr().String()}
	m.http = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second}
	if cfg.Certificate != nil {
		m.url = "https://" + l.Addr().String()
		l = tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{*cfg.Certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		})
	}
	m.serving.Go(func() {
		if err := m.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.WithError(err).Error("masters are listened to no more")
		}
	})
	return m, nil
}

// URL is where masters find it.
func (m *Machine) URL() string { return m.url }

// Close ends every task and the session with a master.
func (m *Machine) Close() error {
	err := errors.Join(m.http.Close(), m.host.Close())
	m.serving.Wait()
	return err
}
