package control

import (
	"testing"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/test/ports"
)

// The operator's error pages are files of the set: the check reads them as whoever it runs as, and a reload finds them.
func TestErrorPagesBelongToTheSet(t *testing.T) {
	r := newRig(t)
	o := &haproxy.Options{
		Dir: r.dir, HTTPBind: []string{ports.Address(t)}, StatsSocket: r.dir + "/stats.sock",
		ErrorPages: map[string][]byte{"away": []byte("<p>away"), "no.http": []byte("HTTP/1.1 403 No\r\nX-Page: no\r\n\r\n")},
		UserLists:  map[string][]haproxy.User{"staff": {{Name: "ann", Hash: "$5$rounds=1000$saltsalt$x"}}},
	}
	service := &signalbox.Service{
		ID: "/shop:0", App: "/shop", Mode: signalbox.HTTP, Routes: []signalbox.Route{{Host: "shop.local", Path: "/"}},
		Policy: signalbox.Policy{
			ErrorPages: []signalbox.ErrorPage{{Status: 503, Name: "away"}, {Status: 403, Name: "no.http"}}, Auth: &signalbox.Auth{Realm: "r", List: "staff"},
		},
	}
	made, err := haproxy.Render(haproxy.DefaultTemplate(), haproxy.Build(signalbox.NewTable([]*signalbox.Service{service}, nil), o, nil))
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for _, m := range made.Maps {
		files = append(files, File(m))
	}
	files = append(files, File{configName, made.Config})
	c := &Checker{Dir: r.dir}
	if v, err := c.Check(t.Context(), files, false); err != nil || len(v.Rejections)+len(v.Warnings) > 0 {
		t.Errorf("%+v, %v; want accepted", v, err)
	}
	if changed, err := NewPublisher(r.dir, -1).Publish(files); err != nil || len(changed) != len(files) {
		t.Errorf("published %v, %v", changed, err)
	}
}
