package haproxy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"signalbox"
)

// fleet returns a table of n services with tasks each.
func fleet(n, tasks int) *signalbox.Table {
	services := make([]*signalbox.Service, 0, n)
	for i := range n {
		app := fmt.Sprintf("/team%d/app%d", i%50, i)
		s := &signalbox.Service{
			ID: signalbox.NewServiceID(app, 0), Source: "marathon", App: app, Mode: signalbox.HTTP,
			Routes: []signalbox.Route{{Host: fmt.Sprintf("app%d.example.com", i), Path: "/"}},
		}
		for j := range tasks {
			s.Endpoints = append(s.Endpoints, signalbox.Endpoint{
				Task: fmt.Sprintf("app%d.%d", i, j), State: signalbox.Up,
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i / 200), byte(1 + i%200)}), uint16(20000+j)),
			})
		}
		services = append(services, s)
	}
	return signalbox.NewTable(services, nil)
}

// changed returns the table with one service replaced by what change makes of a copy.
func changed(t *signalbox.Table, i int, change func(*signalbox.Service)) *signalbox.Table {
	n := &signalbox.Table{Services: slices.Clone(t.Services)}
	s := *t.Services[i]
	s.Endpoints, s.Routes = slices.Clone(s.Endpoints), slices.Clone(s.Routes)
	change(&s)
	n.Services[i] = &s
	return n
}

func testOptions(dir string) *Options {
	return &Options{
		Dir: dir, HTTPBind: []string{"127.0.0.1:18000"}, ServiceBind: "127.0.0.1", StatsSocket: filepath.Join(dir, "stats.sock"),
		LogSocket: filepath.Join(dir, "log.sock"), LogFormat: `%pid %f %lc %{+Q}[var(txn.service)] %ST %b/%s`, LogFormatTCP: "%pid",
		MaxConn: 2000, Threads: 2,
	}
}

func BenchmarkChangeOneOf5000(b *testing.B) {
	table := fleet(5000, 3)
	o := testOptions("/tmp")
	base := Build(table, o, nil)
	for name, change := range map[string]func(*signalbox.Service){
		"task moves": func(s *signalbox.Service) { s.Endpoints[1].Task = "new" },
		"host":       func(s *signalbox.Service) { s.Routes[0].Host = "new.example.com" },
	} {
		other := changed(table, 2500, change)
		b.Run("build, "+name, func(b *testing.B) {
			for b.Loop() {
				Build(other, o, base)
			}
		})
		next := Build(other, o, base)
		b.Run("diff, "+name, func(b *testing.B) {
			for b.Loop() {
				if p := Diff(base, next); len(p.Commands) == 0 || len(p.Reasons) != 0 {
					b.Fatal(p)
				}
			}
		})
	}
}

// An app comes, for which a spare backend is there.
func BenchmarkNewAppBeside5000(b *testing.B) {
	table := fleet(5000, 3)
	o := testOptions("/tmp")
	o.SpareSlots = DefaultSpareSlots
	base := Build(table, o, nil)
	base = base.Rested(atRest(base))
	more := signalbox.NewTable(append(slices.Clone(table.Services), service("/new", "new.local/", tasks(2)...)), nil)
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			Build(more, o, base)
		}
	})
	next := Build(more, o, base)
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			if p := Diff(base, next); len(p.Commands) == 0 || len(p.Reasons) != 0 {
				b.Fatal(p)
			}
		}
	})
}

func BenchmarkBuild5000Cold(b *testing.B) {
	table, o := fleet(5000, 3), testOptions("/tmp")
	for b.Loop() {
		Build(table, o, nil)
	}
}

func BenchmarkRender5000(b *testing.B) {
	table, o := fleet(5000, 3), testOptions("/tmp")
	base := Build(table, o, nil)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			if _, err := Render(DefaultTemplate(), base); err != nil {
				b.Fatal(err)
			}
		}
	})
	next := Build(changed(table, 2500, func(s *signalbox.Service) { s.Endpoints[1].Task = "new" }), o, base)
	tmpl := DefaultTemplate()
	b.Run("warm", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			f, err := Render(tmpl, []*Config{base, next}[i%2])
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(f.Config)))
		}
	})
	if dir := os.Getenv("KEEP"); dir != "" {
		f, _ := Render(tmpl, Build(table, testOptions(dir), nil))
		write(b, dir, f)
	}
}

// write puts files into a directory.
func write(tb testing.TB, dir string, f *Files) {
	tb.Helper()
	for _, m := range append(slices.Clone(f.Maps), File{"haproxy.cfg", f.Config}) {
		if err := os.WriteFile(filepath.Join(dir, m.Name), m.Data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}
