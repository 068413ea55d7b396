package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"signalbox"
	"signalbox/test/consulserver"
)

// Services of a file, of Marathon and of Consul stand side by side, the earlier source's before a later one's of the same id.
func TestSourcesHaveAnOrder(t *testing.T) {
	registry := consulserver.Start(t)
	for _, name := range []string{"db", "shop", "mail"} {
		registry.Register(consulserver.Service{Name: name, Address: "10.0.0.3", Port: 8003, Tags: []string{"signalbox.host=" + name + ".consul"}})
	}
	app := func(id string) string {
		return `{"id":"` + id + `","labels":{"signalbox.host":"shop.marathon"},"networks":[{"mode":"host"}],"portDefinitions":[{"port":10001}],
			"tasks":[{"id":"x.1","host":"10.0.0.1","ports":[31000],"state":"TASK_RUNNING"}]}`
	}
	s := defaults()
	s.Static = filepath.Join(t.TempDir(), "static.yaml")
	content := "services: [{name: /db, labels: {signalbox.port: 5432}, addresses: [10.0.0.9:5432]}]\n"
	if err := os.WriteFile(s.Static, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Marathon = []string{fakeMarathon(t, `{"apps":[`+app("/db")+","+app("/shop")+`]}`)}
	s.Consul = []string{registry.URL}
	table, err := askMarathon(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	for id, source := range map[string]string{"/db:0": "static", "/shop:0": "marathon", "/mail:0": "consul"} {
		found := slices.ContainsFunc(table.Services, func(s *signalbox.Service) bool { return string(s.ID) == id && s.Source == source })
		if !found || len(table.Services) != 3 {
			t.Errorf("%s is not of %s: %v", id, source, table.Services)
		}
	}
	for _, p := range table.AllProblems() {
		if p.Code != "SB201" {
			t.Errorf("problem %v", p)
		}
	}
	s.Marathon, s.Static = nil, ""
	if err := s.validate(); err != nil {
		t.Error(err)
	}
	if table, err = askMarathon(t.Context(), &s); err != nil || len(table.Services) != 3 {
		t.Errorf("Consul alone: %v, %v", table, err)
	}
}
