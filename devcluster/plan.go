package devcluster

import (
	"math"
	"slices"
	"strings"
)

// The actions of a deployment.
const (
	startApp   = "StartApplication"
	stopApp    = "StopApplication"
	scaleApp   = "ScaleApplication"
	restartApp = "RestartApplication"
)

// step is what a deployment does at once.
type step []planned

type planned struct {
	kind string
	app  string
}

// change is what a deployment makes of one app; a nil before is a new app, a nil after one that goes.
type change struct {
	before, after *app
	restart       bool // although nothing changes
}

// plan orders changes as Marathon does: stop what goes, start what is new with no tasks, then scale and restart, what others
// depend on first.
func plan(changes map[string]change) []step {
	var stops, starts step
	todo := map[string]planned{}
	for _, id := range sortedKeys(changes) {
		ch := changes[id]
		switch {
		case ch.after == nil:
			stops = append(stops, planned{stopApp, id})
		case ch.before == nil:
			starts = append(starts, planned{startApp, id})
			todo[id] = planned{scaleApp, id}
		case ch.restart || !ch.before.sameConfig(ch.after):
			todo[id] = planned{restartApp, id}
		case ch.before.Instances != ch.after.Instances:
			todo[id] = planned{scaleApp, id}
		}
	}
	var steps []step
	if stops != nil {
		steps = append(steps, stops)
	}
	if starts != nil {
		steps = append(steps, starts)
	}
	return append(steps, layers(changes, todo)...)
}

// layers sorts actions so that each app comes after those that it depends on. A dependency on a group is one on all its apps.
func layers(changes map[string]change, todo map[string]planned) []step {
	level := map[string]int{}
	var depth func(id string, seen int) int
	depth = func(id string, seen int) int {
		if l, ok := level[id]; ok {
			return l
		}
		l := 0
		if after := changes[id].after; after != nil && seen < len(changes) {
			for _, dep := range after.Dependencies {
				for other := range todo {
					if other != id && (other == dep || strings.HasPrefix(other, dep+"/")) {
						l = max(l, depth(other, seen+1)+1)
					}
				}
			}
		}
		level[id] = l
		return l
	}
	byLevel := map[int]step{}
	for _, id := range sortedKeys(todo) {
		l := depth(id, 0)
		byLevel[l] = append(byLevel[l], todo[id])
	}
	var steps []step
	keys := make([]int, 0, len(byLevel))
	for l := range byLevel {
		keys = append(keys, l)
	}
	slices.Sort(keys)
	for _, l := range keys {
		steps = append(steps, byLevel[l])
	}
	return steps
}

// ignition is how a rolling restart begins: how many old tasks are killed at once, and how many tasks may exist at a time.
type ignition struct{ killNow, maxCapacity int }

// ignite computes a rolling restart's bounds for a number of instances. There are some now, and so many of these are considered
// healthy. What is there beyond the number, as after a deployment that was cancelled, is killed at once: it would leave no room.
func ignite(instances, there, healthy int, s upgradeStrategy, resident bool) ignition {
	minHealthy := int(math.Ceil(float64(instances) * s.MinimumHealthCapacity))
	capacity := int(float64(instances) * (1 + s.MaximumOverCapacity))
	kill := max(0, healthy-minHealthy)
	if minHealthy == capacity && capacity <= healthy {
		if resident {
			kill = healthy - minHealthy + 1
		} else {
			capacity++
		}
	}
	if instances < there {
		kill = max(there-instances, kill)
	}
	return ignition{kill, capacity}
}

// startNow says how many new tasks a rolling restart may start beside old ones that are not gone and new ones started before.
func (i ignition) startNow(instances, old, started int) int {
	return min(max(0, instances-started), max(0, i.maxCapacity-old-started))
}
