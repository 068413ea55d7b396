package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A static service stands beside the apps, and before one that has its id.
func TestStaticServicesStandBesideApps(t *testing.T) {
	app := func(id string) string {
		return `{"id":"` + id + `","labels":{"signalbox.port":"15432","signalbox.enable":"true"},"networks":[{"mode":"host"}],"portDefinitions":[{"port":10001}],
			"tasks":[{"id":"x.1","host":"10.0.0.1","ports":[31000],"state":"TASK_RUNNING"}]}`
	}
	s := defaults()
	s.Marathon = []string{fakeMarathon(t, `{"apps":[`+app("/db")+","+app("/shop")+`]}`)}
	s.Strict = true // what the operator wrote needs no label to say that it is meant
	s.Static = filepath.Join(t.TempDir(), "static.yaml")
	content := "services: [{name: /db, labels: {signalbox.port: 5432}, addresses: [10.0.0.9:5432]}]\n"
	if err := os.WriteFile(s.Static, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := askMarathon(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	db, shop := table.Service("/db:0"), table.Service("/shop:0")
	if db == nil || db.Source != "static" || db.Listen != 5432 || shop == nil || shop.Source != "marathon" {
		t.Errorf("%+v and %+v", db, shop)
	}
	if p := table.AllProblems(); len(p) != 1 || p[0].Code != "SB201" {
		t.Errorf("problems %v", p)
	}
}
