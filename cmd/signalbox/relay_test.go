package main

import (
	"strings"
	"testing"
)

// Those meet at a relay whose settings make the same of what Marathon says.
func TestWhoMeetsAtARelay(t *testing.T) {
	meeting := func(change func(*settings)) string {
		s := defaults()
		change(&s)
		m, err := s.meeting()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	same := meeting(func(*settings) {})
	for what, change := range map[string]func(*settings){
		"ways in":           func(s *settings) { s.HTTPBind = []string{":8000"} },
		"the state's place": func(s *settings) { s.StateDir = "/tmp/other" },
		"the fleet's size":  func(s *settings) { s.FleetSize = 500 },
	} {
		if meeting(change) != same {
			t.Errorf("%s keeps them apart", what)
		}
	}
	for what, change := range map[string]func(*settings){
		"another Marathon": func(s *settings) { s.Marathon = []string{"http://m2:8080"} },
		"a group":          func(s *settings) { s.Group = []string{"external"} },
		"strictness":       func(s *settings) { s.Strict = true },
		"raw templates":    func(s *settings) { s.RawTemplates = []string{"/ops"} },
		"health":           func(s *settings) { s.Health = "any" },
		"control ports":    func(s *settings) { s.ControlPorts = []string{"22"} },
	} {
		if meeting(change) == same {
			t.Errorf("%s does not keep them apart", what)
		}
	}
}

func TestRelaySettings(t *testing.T) {
	for address, wrong := range map[string]string{
		"consul://127.0.0.1:8500/signalbox": "", "consul://127.0.0.1:8500": "folder", "http://127.0.0.1:8500/x": "form", "consul://u:secret@a:8500/x": "token file",
	} {
		s := defaults()
		s.Relay = address
		err := s.validate()
		if (err == nil) != (wrong == "") || err != nil && (!strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", address, err)
		}
	}
	s := defaults()
	s.RelayKeyFile = "/etc/signalbox/key"
	if err := s.validate(); err == nil {
		t.Error("a key without a relay passes")
	}
	s = defaults()
	s.Relay, s.Marathon, s.Static = "consul://127.0.0.1:8500/signalbox", nil, "/etc/static.yaml"
	if err := s.validate(); err == nil {
		t.Error("a relay without Marathon passes")
	}
	s = defaults()
	s.Relay = "consul://127.0.0.1:8500/signalbox"
	c, err := idle(&s)
	if err != nil || c.settings.Relay != "" || s.Relay == "" {
		t.Errorf("a verb takes part in the relay: %v", err)
	}
}
