package devcluster

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
)

// place picks the agent with the fewest tasks of the app, then the fewest at all, that the constraints allow.
func (c *cluster) place(a *runApp) *slave {
	on := map[*slave]int{}
	for _, i := range a.instances {
		if !i.dead && i.version == a.spec.VersionInfo.LastConfigChangeAt {
			on[i.slave]++
		}
	}
	var best *slave
	for _, s := range c.slaves {
		if s.unreachable || !allowed(a.spec.Constraints, s, on) {
			continue
		}
		if best == nil || on[s] < on[best] || on[s] == on[best] && s.instances < best.instances {
			best = s
		}
	}
	return best
}

// allowed judges constraints on the hostname; other fields are attributes, which these agents do not have.
func allowed(constraints [][]string, s *slave, on map[*slave]int) bool {
	for _, k := range constraints {
		value := ""
		if len(k) > 2 {
			value = k[2]
		}
		field := ""
		if k[0] == "hostname" || k[0] == "@hostname" {
			field = s.host
		}
		ok := true
		switch k[1] {
		case "UNIQUE":
			ok = on[s] == 0
		case "CLUSTER":
			for other, n := range on {
				ok = ok && (n == 0 || other == s)
			}
			ok = ok && (value == "" || value == field)
		case "IS":
			ok = value == field
		case "LIKE", "UNLIKE":
			m, err := regexp.MatchString("^(?:"+value+")$", field)
			ok = err == nil && m == (k[1] == "LIKE")
		case "MAX_PER":
			limit := 0
			_, err := fmt.Sscan(value, &limit)
			ok = err == nil && on[s] < limit
		}
		if !ok {
			return false
		}
	}
	return true
}

// victims orders live instances by who is killed first: what does not run well, then by age.
func victims(all []*instance, selection string) []*instance {
	rank := func(i *instance) int {
		switch {
		case i.condition == "Unreachable":
			return 0
		case i.condition != "Running":
			return 1
		case i.healthy() == verdictBad:
			return 2
		default:
			return 3
		}
	}
	live := slices.DeleteFunc(slices.Clone(all), func(i *instance) bool { return !i.live() })
	slices.SortStableFunc(live, func(x, y *instance) int {
		if r := cmp.Compare(rank(x), rank(y)); r != 0 {
			return r
		}
		if selection == "OLDEST_FIRST" {
			return x.staged.Compare(y.staged.Time)
		}
		return y.staged.Compare(x.staged.Time)
	})
	return live
}
