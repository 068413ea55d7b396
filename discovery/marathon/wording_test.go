package marathon

import (
	"testing"
	"testing/synctest"
	"time"
)

// What labels mean can be asked for as long as Marathon has the app.
func TestReadingsFollowTheApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		readings, ok := f.source.Readings("/shop")
		if !ok || len(readings) != 1 || readings[0].Label != "signalbox.host" || readings[0].Value != "shop.local" {
			t.Errorf("readings of /shop: %v, %t", readings, ok)
		}
		if _, ok := f.source.Readings("/other"); ok {
			t.Error("an app that nobody has was read")
		}
		m.remove("/shop")
		m.event("app_terminated_event", `"appId":"/shop"`)
		f.expect("", 5*time.Second)
		if _, ok := f.source.Readings("/shop"); ok {
			t.Error("a deleted app's labels are kept")
		}
		m.put("/other", 1)
		f.again <- struct{}{}
		f.expect("/other: 1=up", 5*time.Second)
		m.remove("/other")
		f.again <- struct{}{}
		f.expect("", 5*time.Second)
		if n := len(f.source.wordings.byApp); n != 0 {
			t.Errorf("the labels of %d apps are kept that a read of everything was without", n)
		}
	})
}
