package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/relay"
)

// relaySettings say where the fleet shares what one of it reads of Marathon.
type relaySettings struct {
	Relay        string // address, without credentials; "": each machine reads for itself
	RelayKeyFile string
}

// validateRelay tells wrong what is wrong.
func (s *settings) validateRelay(wrong func(flag, format string, args ...any)) {
	if s.Relay == "" {
		if s.RelayKeyFile != "" {
			wrong("relay-key-file", "goes together with --relay, which is missing")
		}
		return
	}
	if _, err := relay.ParseAddress(s.Relay); err != nil {
		wrong("relay", "%w", err)
	}
	if len(s.Marathon) == 0 {
		wrong("relay", "goes together with --marathon, which is what it shares")
	}
}

// meeting names those who may share what they read: of the same program, from the same Marathon, by the same rules.
func (s *settings) meeting() (string, error) {
	urls := slices.Clone(s.Marathon)
	slices.Sort(urls)
	text, err := json.Marshal([]any{version(), urls, s.labelOptions(), s.Health, s.AllowLoopback, s.PreferHostPort, s.clusterPorts()})
	if err != nil {
		return "", fmt.Errorf("naming the relay: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6]), nil
}

// relayed returns a source that reads direct once for the whole fleet.
func (c *controller) relayed(direct discovery.Source) (*relay.Source, error) {
	s := c.settings
	at, err := relay.ParseAddress(s.Relay)
	if err != nil {
		return nil, err
	}
	meeting, err := s.meeting()
	if err != nil {
		return nil, err
	}
	store, err := relay.NewConsulStore(relay.ConsulConfig{
		URLs: at.URLs, Prefix: at.Prefix + "/" + meeting, TokenFile: s.ConsulTokenFile, CAFile: s.ConsulCAFile, Datacenter: s.ConsulDatacenter,
	})
	if err != nil {
		return nil, err
	}
	node, _ := os.Hostname()
	rules := s.labelOptions()
	return relay.New(relay.Config{
		Direct: direct, Store: store, Node: node, KeyFile: s.RelayKeyFile, FleetSize: s.FleetSize, Forbidden: s.forbidden(),
		Check: func(svc *signalbox.Service) error {
			if len(svc.Policy.Raw) > 0 && !rules.AllowsRaw(svc.App) {
				return fmt.Errorf("%s has raw lines, which --raw-templates does not allow", svc.ID)
			}
			return nil
		},
		Log: c.journal.WithField("room", "relay"),
	})
}
