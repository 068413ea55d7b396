package haproxy

import (
	"slices"
	"testing"

	"signalbox"
)

func TestEndingOpensNothingAndEmptiesNobody(t *testing.T) {
	o := testOptions("/d")
	shop := func(n int, draining ...int) *signalbox.Service {
		s := service("/shop", "shop.local/", tasks(n)...)
		for _, i := range draining {
			s.Endpoints[i].State = signalbox.Draining
		}
		return s
	}
	last := service("/last", "last.local/", tasks(1)...)
	was := Build(tableOf(shop(3), last), o, nil)

	// One drains, one is gone, a new name comes, and the last task of another app is replaced.
	replaced := service("/last", "last.local/", tasks(2)[1:]...)
	next := shop(3, 0)
	next.Endpoints = slices.Delete(next.Endpoints, 1, 2)
	also := next.Routes[0]
	also.Host = "also.local"
	next.Routes = append(next.Routes, also)
	want := Build(tableOf(next, replaced), o, was)
	if !Diff(was, want).Opens {
		t.Fatal("a new name opens nothing")
	}
	ends := Ending(was, want)
	plan := Diff(was, ends)
	var got []string
	for _, c := range plan.Commands {
		got = append(got, c.Text)
	}
	b := backendName(shop(3))
	if want := []string{"set server " + b + "/s1 state drain", "set server " + b + "/s2 state drain"}; !slices.Equal(got, want) {
		t.Errorf("what ends:\n%q, want\n%q", got, want)
	}
	if plan.Opens || len(plan.Reasons) > 0 || len(plan.Left) > 0 {
		t.Errorf("%+v", plan)
	}
	if again := Ending(ends, want); again != ends {
		t.Error("what has ended ends again")
	}
	if Ending(was, was) != was {
		t.Error("where nothing ends there is another configuration")
	}
	// Of tasks that all go the last is not taken away.
	none := shop(3)
	none.Endpoints = nil
	if Ending(was, Build(tableOf(none, last), o, was)) != was {
		t.Error("a backend was emptied")
	}
}
