package control

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// While a reload that one app asks for is not to be had, certificates are renewed, and an app that takes a spare backend has its own.
func TestCertificatesWhileAReloadWaits(t *testing.T) {
	r := newTLSRig(t)
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	shop, cart := pemFor(t, "shop.local", time.Hour), pemFor(t, "cart.local", time.Hour)
	put(t, r.source, "shop", shop)
	r.read()
	s := r.real()
	s.Certificates, s.ReloadBurst, s.ReloadRefill = r.certs, 1, time.Hour
	r.start(s)
	one := task(t, "one")
	var c *haproxy.Config
	want := func(services ...*signalbox.Service) {
		r.read()
		c = haproxy.Build(table(services...), r.listed(), c.Rested(r.app.Rested()))
		r.app.Update(c)
	}
	plain, odd, named := service("shop", one), service("odd", one), service("named", one)
	named.Check = signalbox.Check{Kind: signalbox.CheckTCP}
	odd.Policy.RequestHeaders = []signalbox.Header{{Name: "X-A", Value: "b"}}
	want(plain)
	r.until("that runs", func() bool { return r.app.Running() == c })
	want(plain)
	want(plain, odd)
	r.until("the reload is due", func() bool { running := r.app.Running(); return running != nil && running != c })
	shop = pemFor(t, "shop.local", 2*time.Hour)
	put(t, r.source, "shop", shop)
	put(t, r.source, "cart", cart)
	named.Policy.TLS = "cart"
	want(plain, odd, named)
	r.answers("named.local", "one")
	r.until("the renewed certificate is there", func() bool { return r.serial("shop.local") == serialOf(t, shop) })
	r.until("the new app has its own", func() bool { return r.serial("named.local") == serialOf(t, cart) })
	late := pemFor(t, "shop.local", 3*time.Hour) // of another file, and nothing else changes
	put(t, r.source, "another", late)
	if err := os.Remove(filepath.Join(r.source, "shop.pem")); err != nil {
		t.Fatal(err)
	}
	want(plain, odd, named)
	r.until("the other file's is shown", func() bool { return r.serial("shop.local") == serialOf(t, late) })
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}
}
