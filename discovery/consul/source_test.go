package consul

import (
	"strings"
	"testing"

	"signalbox/test/consulserver"
)

// web is a service with one host.
func web(name, id string, port int, tags ...string) consulserver.Service {
	return consulserver.Service{Name: name, ID: id, Address: "10.0.0.1", Port: port, Tags: append([]string{"signalbox.host=" + name + ".local"}, tags...)}
}

// The catalog is followed: services, instances, checks and labels as they come and go.
func TestSourceFollowsTheCatalog(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	f := followConsul(t, Config{URLs: []string{s.URL}}, "")
	f.expect("", "following "+s.URL)

	s.Register(web("shop", "shop-1", 8001, "v1.2"))
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following")
	before := f.table.Services[0]

	// Labels in the service's meta, where a key has no dots; a service that asks for nothing is none.
	s.Register(consulserver.Service{Name: "meta", ID: "meta-1", Address: "10.0.0.2", Port: 8002, Meta: map[string]string{
		"signalbox_host": "meta.local", "signalbox_0_path": "/m", "HAPROXY_0_MODE": "http", "version": "7",
	}})
	s.Register(consulserver.Service{Name: "plain", ID: "plain-1", Address: "10.0.0.3", Port: 8003, Tags: []string{"primary"}})
	f.expect("/meta:0 meta.local/m 10.0.0.2:8002=up; /shop:0 shop.local/ 10.0.0.1:8001=up", "following")
	if f.table.Services[1] != before {
		t.Error("a service that did not change has a new pointer")
	}
	s.Deregister("meta-1")
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following")

	// A second instance, whose check decides.
	two := web("shop", "shop-2", 8004)
	two.Check = map[string]string{"CheckID": "alive", "TTL": "1h", "Status": "critical"}
	s.Register(two)
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up 10.0.0.1:8004=down", "following") // v1.2 is no label: they ask for the same
	three := web("shop", "shop-3", 8005, "signalbox.balance=first")
	s.Register(three)
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up 10.0.0.1:8004=down 10.0.0.1:8005=up", "following", "SB321")
}

// What an instance's checks say is its state.
func TestChecksDecide(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	f := followConsul(t, Config{URLs: []string{s.URL}}, "")
	one := web("shop", "shop-1", 8001)
	one.Check = map[string]string{"CheckID": "alive", "TTL": "1h"}
	s.Register(one)
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=down", "following")
	if why := f.table.Services[0].Endpoints[0].Why; why != "its check alive is critical" {
		t.Errorf("it is down because %q", why)
	}
	for status, state := range map[string]string{"passing": "up", "warning": "up", "critical": "down"} {
		s.Put("/v1/agent/check/update/alive", map[string]string{"Status": status})
		f.expect("/shop:0 shop.local/ 10.0.0.1:8001="+state, "following")
	}
	s.Put("/v1/agent/service/maintenance/shop-1?enable=true", nil)
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=draining", "following")
	s.Put("/v1/agent/service/maintenance/shop-1?enable=false", nil)
	s.Put("/v1/agent/check/update/alive", map[string]string{"Status": "passing"})
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following")
	// A node that the others do not hear: HAProxy's checks decide.
	s.Put("/v1/catalog/register", map[string]any{
		"Node": "far", "Address": "10.0.0.7", "Service": map[string]any{"Service": "shop", "ID": "shop-9", "Port": 8009, "Tags": []string{"signalbox.host=shop.local"}},
		"Check": map[string]any{"CheckID": "serfHealth", "Name": "serf", "Status": "critical", "Node": "far"},
	})
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up 10.0.0.7:8009=suspect", "following")
}

// fabio's tags are read where no native label asks for a way in.
func TestFabioTagsAreRead(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	f := followConsul(t, Config{URLs: []string{s.URL}}, "")
	tagged := func(tags ...string) consulserver.Service {
		return consulserver.Service{Name: "shop", ID: "shop-1", Address: "10.0.0.1", Port: 8001, Tags: tags}
	}
	s.Register(tagged("urlprefix-a.local/x", "urlprefix-b.local/", "urlprefix-:3306 proto=tcp"))
	f.expect("/shop:0 :3306 10.0.0.1:8001=up; /shop:1 a.local/x 10.0.0.1:8001=up; /shop:2 b.local/ 10.0.0.1:8001=up", "following")
	s.Register(tagged("urlprefix-a.local/x deny=ip:10.0.0.0/8", "urlprefix-b.local/"))
	f.expect("/shop:0 b.local/ 10.0.0.1:8001=up", "following", "SB323")
	s.Register(tagged("urlprefix-a.local/x", "signalbox.host=c.local"))
	f.expect("/shop:0 c.local/ 10.0.0.1:8001=up", "following")
	s.Register(tagged("v1"))
	f.expect("", "following") // its labels are gone, and it is not: that explains itself
}

// What is odd about one instance or one service costs that.
func TestOddRegistrations(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	f := followConsul(t, Config{URLs: []string{s.URL}, Convert: Options{ControlPorts: []uint16{22}}}, "")
	s.Register(web("shop", "shop-1", 8001))
	s.Register(web("shop", "shop-2", 0))
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following", "SB322")
	s.Deregister("shop-2")
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following")

	bad := web("shop/x", "bad-1", 8002)
	bad.Tags = []string{"signalbox.host=bad.local"}
	s.Register(bad)
	ssh := web("ssh", "ssh-1", 22)
	ssh.Address = "127.0.0.1" // the node's own
	s.Register(ssh)
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up; /ssh:0 ssh.local/", "following", "SB320", "SB322")
	s.Deregister("bad-1")
	s.Deregister("ssh-1")
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following")

	// A proxy of the mesh carries the labels of what it stands before.
	side := web("shop", "side-1", 21000)
	side.Kind, side.Proxy = "connect-proxy", map[string]string{"DestinationServiceName": "shop"}
	s.Register(side)
	// A replica without labels is not meant, a typing error is told.
	s.Register(consulserver.Service{Name: "shop", ID: "shop-3", Address: "10.0.0.3", Port: 8003, Tags: []string{"replica"}})
	s.Register(web("shop", "shop-1", 8001, "signalbox.blance=first"))
	f.expect("/shop:0 shop.local/ 10.0.0.1:8001=up", "following", "SB102")
	r, ok := f.source.Readings("/shop")
	if !ok || len(r) == 0 || r[0].Label != "signalbox.host" {
		t.Errorf("readings of /shop: %v, %t", r, ok)
	}
}

// More services than blocking queries take turns.
func TestServicesTakeTurns(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	f := followConsul(t, Config{URLs: []string{s.URL}, Watches: 2}, "")
	var want []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		s.Register(web(name, name, 8001))
		want = append(want, "/"+name+":0 "+name+".local/ 10.0.0.1:8001=up")
		f.expect(strings.Join(want, "; "), "following")
	}
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		s.Register(web(name, name, 9001))
		want[i] = strings.Replace(want[i], "8001", "9001", 1)
		f.expect(strings.Join(want, "; "), "following")
	}
	for _, name := range []string{"a", "b", "c"} {
		s.Deregister(name)
	}
	f.expect(strings.Join(want[3:], "; "), "following")
	s.Register(web("e", "e", 9002))
	f.expect(want[3]+"; /e:0 e.local/ 10.0.0.1:9002=up", "following")
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{URLs: []string{"ftp://a"}},
		{URLs: []string{"http://u:p@a:8500"}},
		{URLs: []string{"http://a:8500"}, TokenFile: "/nowhere"},
		{URLs: []string{"http://a:8500"}, CAFile: "/nowhere"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("the error shows credentials: %v", err)
		}
	}
}
