package haproxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"signalbox"
)

// Tasks come and go, here and elsewhere, deployments replace all of an app's, some wait for a verdict: which pace whose slot has never
// asks for a reload by itself, nor do the spare backends.
func TestPacesAndSparesAskForNoReload(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 7))
		o := spareOptions()
		o.Node, o.FleetSize = []string{"here"}, []int{1, 3, 100, 2000}[seed%4]
		o.AddServers = seed%2 == 0
		if seed%3 == 0 {
			o.Prefer = PreferLocal
		}
		number := 0
		fresh := func() signalbox.Endpoint {
			number++
			e := signalbox.Endpoint{
				Task: fmt.Sprint("t", number), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}), 31000),
				Host: []string{"here", "there"}[r.IntN(2)], State: []signalbox.State{signalbox.Up, signalbox.Unknown}[r.IntN(2)],
			}
			return e
		}
		apps := make([]*signalbox.Service, 30)
		for i := range apps {
			apps[i] = service(fmt.Sprintf("/app%d", i), fmt.Sprintf("app%d.local/", i))
			apps[i].Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/"}
			for range 1 + r.IntN(6) {
				apps[i].Endpoints = append(apps[i].Endpoints, fresh())
			}
		}
		now := loaded(Build(tableOf(apps...), o, nil))
		for step := range 300 {
			i := r.IntN(len(apps))
			s := *apps[i]
			s.Endpoints = slices.Clone(s.Endpoints)
			switch r.IntN(4) {
			case 0: // a deployment, half of it
				for k := range s.Endpoints {
					if k%2 == 0 {
						s.Endpoints[k].State = signalbox.Draining
					}
				}
				for range 1 + len(s.Endpoints)/2 {
					s.Endpoints = append(s.Endpoints, fresh())
				}
			case 1: // its end
				s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e signalbox.Endpoint) bool { return e.State == signalbox.Draining })
				for k := range s.Endpoints {
					s.Endpoints[k].State = signalbox.Up
				}
			case 2:
				for range 1 + r.IntN(8) {
					s.Endpoints = append(s.Endpoints, fresh())
				}
			default:
				s.Endpoints = s.Endpoints[:r.IntN(len(s.Endpoints)+1)]
			}
			if len(s.Endpoints) > 20 {
				s.Endpoints = s.Endpoints[:1]
			}
			apps[i] = &s
			next := Build(tableOf(apps...), o, now)
			follows(t, fmt.Sprintf("seed %d, step %d, %s with %d tasks", seed, step, s.App, len(s.Endpoints)), now, next)
			if t.Failed() {
				return
			}
			now = loaded(next)
		}
	}
}
