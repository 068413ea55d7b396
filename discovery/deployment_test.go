package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// member returns an app of the group /nginx, with healthy and sick tasks.
func member(id, started string, instances, healthy, sick int) *signalbox.Service {
	s := app(id, healthy+sick)
	s.Routes = []signalbox.Route{{Host: id[1:] + ".local", Path: "/"}}
	s.Deployment = &signalbox.Deployment{Group: "/nginx", StartedAt: started, Instances: instances}
	for i := range s.Endpoints {
		if i >= healthy {
			s.Endpoints[i].State = signalbox.Down
		}
	}
	return s
}

func (m deploying) with(s *signalbox.Service) *signalbox.Service {
	s.Deployment.New, s.Deployment.Target, s.Deployment.ScaledAt = m.new, m.target, m.scaled
	return s
}

type deploying struct {
	new, target *int
	scaled      time.Time
}

// shares counts a merged service's tasks by app and state: "nginx-blue 2 up 1 draining".
func shares(s *signalbox.Service) string {
	count := map[string]int{}
	for _, e := range s.Endpoints {
		count[fmt.Sprintf("%s %s", e.App, e.State)]++
	}
	var out []string
	for k, n := range count {
		out = append(out, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestDeploymentDrainsAsItProceeds(t *testing.T) {
	const early, late = "2026-11-25T10:00:00.123456", "2026-11-25T11:00:00.5"
	at := func(hour int) time.Time { return time.Date(2026, 11, 25, hour, 0, 0, 0, time.UTC) }
	zero, three, four := 0, 3, 4
	to := func(n int) deploying { return deploying{new: &zero, target: &n} }
	for _, c := range []struct {
		name, want, defines string
		members             []*signalbox.Service
		code                string
	}{
		{"one app alone", "/blue up 3", "/blue", []*signalbox.Service{member("/blue", early, 3, 3, 0)}, ""},
		{"the new one is not healthy yet", "/blue up 4, /green down 1", "/blue", []*signalbox.Service{
			member("/blue", early, 4, 4, 0), to(4).with(member("/green", late, 1, 0, 1)),
		}, ""},
		{"one beyond the target", "/blue draining 1, /blue up 3, /green up 1", "/blue", []*signalbox.Service{
			member("/blue", early, 4, 4, 0), to(4).with(member("/green", late, 1, 1, 0)),
		}, ""},
		{"nothing is spare", "/blue up 3, /green up 1", "/blue", []*signalbox.Service{
			member("/blue", early, 3, 3, 0), to(4).with(member("/green", late, 2, 1, 0)),
		}, ""},
		{"half way", "/blue draining 2, /blue up 1, /green up 3", "/blue", []*signalbox.Service{
			member("/blue", early, 3, 3, 0), to(4).with(member("/green", late, 3, 3, 0)),
		}, ""},
		{"all of the old one", "/blue draining 2, /green up 4", "/blue", []*signalbox.Service{
			member("/blue", early, 2, 2, 0), to(4).with(member("/green", late, 4, 4, 0)),
		}, ""},
		{"the order of the apps says nothing", "/green draining 1, /green up 3, /blue up 1", "/green", []*signalbox.Service{
			to(4).with(member("/blue", late, 1, 1, 0)), member("/green", early, 4, 4, 0),
		}, ""},
		{"one without a date was there before", "/nginx draining 1, /nginx up 3, /green up 1", "/nginx", []*signalbox.Service{
			to(4).with(member("/green", late, 1, 1, 0)), member("/nginx", "", 4, 4, 0),
		}, ""},
		{"counts of old deployments: a task for a task", "/blue draining 1, /blue up 2, /green up 1", "/blue", []*signalbox.Service{
			member("/blue", early, 3, 3, 0), member("/green", late, 1, 1, 0),
		}, ""},
		{"no target is said", "/blue draining 2, /blue up 1, /green up 2", "/blue", []*signalbox.Service{
			member("/blue", early, 3, 3, 0), deploying{new: &zero}.with(member("/green", late, 2, 2, 0)),
		}, "SB307"},
		{"both are kept, the young one scaled at last", "/blue draining 2, /blue up 2, /green up 2", "/blue", []*signalbox.Service{
			deploying{&three, &four, at(10)}.with(member("/blue", early, 4, 4, 0)), deploying{&three, &four, at(11)}.with(member("/green", late, 2, 2, 0)),
		}, ""},
		{"both are kept, the old one scaled at last", "/green draining 2, /green up 2, /blue up 2", "/green", []*signalbox.Service{
			deploying{&three, &four, at(12)}.with(member("/blue", early, 2, 2, 0)), deploying{&three, &four, at(11)}.with(member("/green", late, 4, 4, 0)),
		}, ""},
		{"one is replaced, and was scaled down at last", "/blue up 2, /green up 2", "/blue", []*signalbox.Service{
			deploying{&zero, &four, at(12)}.with(member("/blue", early, 2, 2, 0)), deploying{&zero, &four, at(11)}.with(member("/green", late, 2, 2, 0)),
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d deployments
			got, problems := d.merge(c.members)
			if len(got) != 1 || got[0].ID != "/nginx:0" || got[0].App != "/nginx" || len(problems) != 0 {
				t.Fatalf("got %v and %v", got, problems)
			}
			want := strings.Split(c.want, ", ")
			slices.Sort(want)
			if diff := gocmp.Diff(strings.Join(want, ", "), shares(got[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, m := range c.members {
				if of := (&signalbox.Table{Services: got}).ServicesOf(m.App); len(of) != 1 || of[0] != got[0] {
					t.Errorf("the services of %s are %v", m.App, of)
				}
			}
			if host := c.defines[1:] + ".local"; got[0].Routes[0].Host != host {
				t.Errorf("the service answers under %s, want %s", got[0].Routes[0].Host, host)
			}
			if code := got[0].Problems; (c.code == "") != (len(code) == 0) || c.code != "" && code[0].Code != c.code {
				t.Errorf("problems %v, want %s", code, c.code)
			}
		})
	}
}

func TestDeploymentGroupWithAnAppsID(t *testing.T) {
	blue := member("/blue", "", 1, 1, 0)
	var d deployments
	got, problems := d.merge([]*signalbox.Service{blue, app("/nginx", 1)})
	if len(got) != 2 || got[0] != blue || len(problems) != 1 || problems[0].Code != "SB306" {
		t.Errorf("got %v and %v", got, problems)
	}
}

// Whoever may deploy elsewhere gets no share of a group by naming it, whatever he says of its age.
func TestDeploymentGroupsAreOfOneFolder(t *testing.T) {
	blue, green := member("/team/nginx-blue", "2026-11-25T10:00", 2, 2, 0), member("/team/nginx-green", "2026-11-25T11:00", 2, 0, 1)
	evil, root := member("/evil/nginx", "1999-01-01T00:00", 1, 1, 0), member("/nginx-root", "1999-01-01T00:00", 1, 1, 0)
	at := func(second int64, s *signalbox.Service) *signalbox.Service { s.Since = time.Unix(second, 0); return s }
	at(1, blue)
	at(2, evil)
	at(3, green)
	at(4, root)
	d := new(deployments)
	decide := func(all ...*signalbox.Service) string {
		table := d.of(signalbox.NewTable(all, nil))
		var out []string
		for _, s := range table.Services {
			out = append(out, fmt.Sprintf("%s(%s)", s.ID, shares(s)))
		}
		for _, p := range table.Problems {
			out = append(out, p.Code+" "+p.App)
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct {
		name, want string
		members    []*signalbox.Service
	}{
		{"the oldest one's folder", "/evil/nginx:0( up 1), /nginx:0(/team/nginx-blue up 2, /team/nginx-green down 1), SB313 /evil/nginx", []*signalbox.Service{blue, green, evil}},
		{"that of the members before", "/evil/nginx:0( up 1), /nginx:0(/team/nginx-green down 1), SB313 /evil/nginx", []*signalbox.Service{green, evil}},
		{"nor the group's own", "/nginx-root:0( up 1), /nginx:0(/team/nginx-green down 1), SB313 /nginx-root", []*signalbox.Service{green, root}},
		{"that of whoever is left", "/nginx:0(/nginx-root up 1)", []*signalbox.Service{root}},
		{"the group's own", "/evil/nginx:0( up 1), /nginx:0(/nginx-root up 1), SB313 /evil/nginx", []*signalbox.Service{evil, root}},
	} {
		if got := decide(c.members...); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Whatever joins a group: every task of every member is in exactly one service, members of one group lie in services of its id, a
// deployment never drains a task for which no healthy one is there, the order of the input says nothing, the input is not changed,
// and what did not change keeps its pointer.
func TestDeploymentProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string) *int {
			if !rapid.Bool().Draw(t, name+" is said") {
				return nil
			}
			n := rapid.IntRange(0, 6).Draw(t, name)
			return &n
		}
		var in []*signalbox.Service
		tasks := 0
		for i := range rapid.IntRange(0, 6).Draw(t, "apps") {
			s := member(fmt.Sprintf("/app-%d", i), rapid.SampledFrom([]string{"", "nonsense", "2026-01-01T00:00:00", "2026-01-02 00:00:00"}).Draw(t, "started"),
				rapid.IntRange(0, 6).Draw(t, "instances"), rapid.IntRange(0, 4).Draw(t, "healthy"), rapid.IntRange(0, 2).Draw(t, "sick"))
			s.Deployment.New, s.Deployment.Target = number("new"), number("target")
			s.Deployment.Group = rapid.SampledFrom([]string{"/app-0", "/nginx", "/web"}).Draw(t, "group")
			if rapid.IntRange(0, 3).Draw(t, "alone") == 0 {
				s.Deployment = nil
			}
			tasks += len(s.Endpoints)
			in = append(in, s)
		}
		before := make([]*signalbox.Service, len(in))
		for i, s := range in {
			copied := *s
			copied.Endpoints = slices.Clone(s.Endpoints)
			before[i] = &copied
		}
		var d deployments
		got, problems := d.merge(in)
		seen, ids := 0, map[signalbox.ServiceID]bool{}
		for i, s := range got {
			if i > 0 && got[i-1].ID >= s.ID {
				t.Fatalf("%s follows %s", s.ID, got[i-1].ID)
			}
			ids[s.ID] = true
			seen += len(s.Endpoints)
			draining, up := 0, 0
			for _, e := range s.Endpoints {
				switch e.State {
				case signalbox.Draining:
					draining++
				case signalbox.Up:
					up++
				}
			}
			if draining > 0 && up == 0 {
				t.Fatalf("%s: everything drains", s.ID)
			}
		}
		if seen != tasks {
			t.Fatalf("%d tasks went in, %d came out", tasks, seen)
		}
		if !slices.EqualFunc(before, in, (*signalbox.Service).Equal) {
			t.Fatal("the input is changed")
		}
		shuffled := rapid.Permutation(slices.Clone(in)).Draw(t, "order")
		var fresh deployments
		again, againProblems := fresh.merge(shuffled)
		again = slices.SortedFunc(slices.Values(again), func(a, b *signalbox.Service) int { return cmp.Compare(a.ID, b.ID) })
		if !slices.EqualFunc(got, again, (*signalbox.Service).Equal) || !slices.Equal(problems, againProblems) {
			t.Fatalf("another order gives another table: %v, %v", got, again)
		}
		if same, _ := d.merge(in); !slices.Equal(same, got) {
			t.Fatal("unchanged groups have new pointers")
		}
	})
}
