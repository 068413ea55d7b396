package signalbox

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func shop(tasks ...string) *Service {
	s := &Service{ID: "/shop:0", Source: "marathon", App: "/shop", Mode: HTTP, Routes: []Route{{Host: "shop.local", Path: "/"}}}
	for i, task := range tasks {
		s.Endpoints = append(s.Endpoints, Endpoint{Task: task, Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(31000+i)), State: Up})
	}
	return s
}

func text(t *Table) string {
	var b strings.Builder
	if _, err := t.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.String()
}

func TestTableTextSaysWhatRunsWhere(t *testing.T) {
	got := text(NewTable([]*Service{shop("shop.1", "shop.2")}, nil))
	want := `service /shop:0 http from marathon
route /shop:0 shop.local/
endpoint /shop:0 10.0.0.1:31000 up shop.1
endpoint /shop:0 10.0.0.1:31001 up shop.2
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("text form (-want +got):\n%s", diff)
	}
}

func TestDiffTextNamesOnlyWhatChanged(t *testing.T) {
	cart := &Service{ID: "/cart:0", App: "/cart", Source: "marathon", Mode: HTTP}
	from := NewTable([]*Service{shop("shop.1", "shop.2"), cart}, nil)
	to := NewTable([]*Service{shop("shop.1"), {ID: "/tcp:0", App: "/tcp", Source: "marathon", Mode: TCP, Listen: 10001}}, nil)
	want := []string{
		"- service /cart:0 http from marathon",
		"- endpoint /shop:0 10.0.0.1:31001 up shop.2",
		"+ service /tcp:0 tcp listen 10001 from marathon",
	}
	if diff := cmp.Diff(want, DiffText(from, to)); diff != "" {
		t.Errorf("diff (-want +got):\n%s", diff)
	}
}

func TestOneIDFromTwoSourcesIsAProblem(t *testing.T) {
	other := shop("x")
	other.Source = "file"
	table := NewTable([]*Service{shop("shop.1"), other}, nil)
	if len(table.Services) != 1 || table.Services[0].Source != "file" {
		t.Errorf("kept %v, want the service from file alone", text(table))
	}
	if p := table.AllProblems(); len(p) != 1 || p[0].Code != "SB201" {
		t.Errorf("problems %v, want one SB201", p)
	}
}

func TestServiceFindsByID(t *testing.T) {
	table := NewTable([]*Service{shop("a"), {ID: "/b:0", App: "/b"}, {ID: "/b:1", App: "/b"}}, nil)
	for _, s := range table.Services {
		if got := table.Service(s.ID); got != s {
			t.Errorf("Service(%q) = %v", s.ID, got)
		}
	}
	if table.Service("/none:0") != nil || (*Table)(nil).Service("/b:0") != nil {
		t.Error("an unknown service was found")
	}
	if apps, endpoints := table.Counts(); apps != 2 || endpoints != 1 {
		t.Errorf("Counts() = %d, %d, want 2, 1", apps, endpoints)
	}
}

func TestTablesEqualWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`/[a-c]{1,3}:[0-2]`), 0, 12, rapid.ID).Draw(t, "ids")
		var a []*Service
		for _, id := range ids {
			app, _, _ := strings.Cut(id, ":")
			a = append(a, &Service{ID: ServiceID(id), App: app})
		}
		b := rapid.Permutation(slices.Clone(a)).Draw(t, "permuted")
		ta, tb := NewTable(a, nil), NewTable(b, nil)
		if !ta.Equal(tb) || text(ta) != text(tb) || len(DiffText(ta, tb)) != 0 {
			t.Fatalf("order matters: %q and %q", text(ta), text(tb))
		}
	})
}

func TestProblemStaysOnOneLine(t *testing.T) {
	p := Problem{Code: "SB110", App: "/a", Label: "signalbox.path", Value: "x\nSB999 /b: forged", Message: "must start with \"/\""}
	if s := p.String(); strings.Contains(s, "\n") {
		t.Errorf("String() = %q", s)
	}
}

// Two states of a service with many routes are told apart in no time worth noticing.
func TestDiffTextIsLinear(t *testing.T) {
	many := func(path string) *Table {
		s := shop("shop.1")
		for i := range 60_000 {
			s.Routes = append(s.Routes, Route{Host: fmt.Sprintf("h%d.local", i), Path: path})
		}
		return NewTable([]*Service{s}, nil)
	}
	began := time.Now()
	diff := DiffText(many("/a"), many("/b"))
	if took := time.Since(began); len(diff) != 120_000 || took > 5*time.Second {
		t.Errorf("%d lines, after %s", len(diff), took)
	}
}

func TestWalkMeetsEveryIDOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := func(name string) []*Service {
			ids := rapid.SliceOfNDistinct(rapid.StringMatching(`/[a-c]{1,2}:[0-2]`), 0, 12, rapid.ID).Draw(t, name)
			slices.Sort(ids)
			var out []*Service
			for _, id := range ids {
				out = append(out, &Service{ID: ServiceID(id)})
			}
			return out
		}
		from, to := state("from"), state("to")
		var old, now []*Service
		var met []ServiceID
		Walk(from, to, func(a, b *Service) {
			if a != nil {
				old, met = append(old, a), append(met, a.ID)
			}
			if b != nil {
				now = append(now, b)
			}
			switch {
			case a == nil:
				met = append(met, b.ID)
			case b != nil && a.ID != b.ID:
				t.Fatalf("%s met %s", a.ID, b.ID)
			}
		})
		if !slices.Equal(old, from) || !slices.Equal(now, to) {
			t.Fatalf("met %v and %v, want all of %v and %v", old, now, from, to)
		}
		if !slices.IsSorted(met) || len(slices.Compact(slices.Clone(met))) != len(met) {
			t.Fatalf("met %v, want each id once, in order", met)
		}
	})
}
