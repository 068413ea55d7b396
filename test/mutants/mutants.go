package main

// mutant takes one safeguard away: in file, the text old, which is there once, becomes replaced.
type mutant struct {
	name          string // of the safeguard
	file          string
	old, replaced string
	tests         []string // packages, each perhaps with a pattern of its tests that matter, after a space
}

const controlTests = "haproxy/control"

// mutants are the safeguards, each as it is taken away.
var mutants = []mutant{
	{
		"settle: the least time between two tables", "discovery/watcher.go",
		"&& now.Sub(lastMade) >= w.cfg.Settle {", "{",
		[]string{"discovery"},
	},
	{
		"quarantine of empty and shrinking states", "discovery/quarantine.go",
		"if accept || !g.suspicious(good, next, lost) {", "if true || accept || !g.suspicious(good, next, lost) {",
		[]string{"discovery"},
	},
	{
		"explanations of an absence are spent with it", "discovery/watcher.go",
		"	s.explained.spend(s.good, r.serve)\n", "",
		[]string{"discovery"},
	},
	{
		"fsync of a file before its rename", "haproxy/control/publish.go",
		"	if err := f.Sync(); err != nil {\n		return \"\", err\n	}\n", "",
		[]string{controlTests + " Publish"},
	},
	{
		"fsync of the directory", "haproxy/control/publish.go",
		"	if err := p.disk.SyncDir(p.dir); err != nil {\n		p.published = nil\n", "	if err := error(nil); err != nil {\n		p.published = nil\n",
		[]string{controlTests + " Publish"},
	},
	{
		"haproxy.cfg comes after the maps that it names", "haproxy/control/publish.go",
		"return boolRank(a.Name == configName) - boolRank(b.Name == configName)", "return boolRank(b.Name == configName) - boolRank(a.Name == configName)",
		[]string{controlTests + " Publish|Disk|Crash"},
	},
	{
		"checksums of the published files", "haproxy/control/publish.go",
		"if !matches(data, listed) {", "if false && !matches(data, listed) {",
		[]string{controlTests + " Publish|Torn|Restore|Load|Crash|Keep"},
	},
	{
		"checksum of the persisted state", "haproxy/control/remember.go",
		"!ok || !end || sum != hex.EncodeToString(is[:])", "!ok || !end || false && sum != hex.EncodeToString(is[:])",
		[]string{controlTests + " State|Remember|Recover|Torn|Crash"},
	},
	{
		"a drain of what is left behind", "haproxy/control/loop.go",
		"	a.drains.leave(a.earlier, c, time.Now())\n", "",
		[]string{controlTests + " WhatIsBegun"},
	},
	{
		"what moved goes on", "haproxy/control/drains.go",
		"!known.over && !known.serves() && now", "!known.over && now",
		[]string{controlTests + " WhatIsBegun"},
	},
	{
		"compare with what runs", "haproxy/control/loop.go",
		"plan := a.cfg.Diff(a.running, a.effective)", "plan := a.cfg.Diff(map[bool]*haproxy.Config{true: a.onDisk, false: a.running}[a.onDisk != nil], a.effective)",
		[]string{controlTests + " Scaling|Audit|Restart|KilledBefore"},
	},
	{
		"repair of what an audit finds", "haproxy/control/jobs.go",
		"	case len(r.diffs) > 0:\n", "	case false && len(r.diffs) > 0:\n",
		[]string{controlTests + " Audit"},
	},
	{
		"the audit's look at free slots", "haproxy/control/readback.go",
		"anyAddr := s.Admin == haproxy.Maint && !s.Addr.IsValid()", "anyAddr := s.Admin == haproxy.Maint",
		[]string{controlTests + " TheAuditLooks"},
	},
	{
		"memory of rejected configurations", "haproxy/control/check.go",
		"if v, ok := c.known(hash); ok {", "if v, ok := c.known(hash); false && ok {",
		[]string{controlTests + " Check|Reject|Known"},
	},
	{
		"waiting after a reload that failed", "haproxy/control/jobs.go",
		"if now.Before(a.retryAt) || now.Sub(a.lastTry) < a.cfg.ReloadInterval {", "if now.Sub(a.lastTry) < a.cfg.ReloadInterval {",
		[]string{controlTests + " ReloadsWait"},
	},
	{
		"the interval between reloads", "haproxy/control/jobs.go",
		"if now.Before(a.retryAt) || now.Sub(a.lastTry) < a.cfg.ReloadInterval {", "if now.Before(a.retryAt) {",
		[]string{controlTests + " ReloadsWait"},
	},
	{
		"the budget of reloads", "haproxy/control/jobs.go",
		"ok := a.budget.take(now, askers(a.running, a.effective, a.reasons))", "_, ok := a.budget.take(now, askers(a.running, a.effective, a.reasons)), true",
		[]string{controlTests + " Flap|Budget"},
	},
	{
		"withholding of the app that a check rejects", "haproxy/control/jobs.go",
		"if a.want != nil && a.withheld.reject(r, a.cfg.AppAt) {", "if false && a.withheld.reject(r, a.cfg.AppAt) {",
		[]string{controlTests + " Rejected|Withheld"},
	},
	{
		"a withheld app keeps its last good definition over a restart of HAProxy", "haproxy/control/drains.go",
		"a.withheld.apply(a.want, a.ran())", "a.withheld.apply(a.want, a.loaded)",
		[]string{controlTests + " Withheld"},
	},
	{
		"a worker that leaves is not taken for one that refuses", "haproxy/control/loop.go",
		"if a.busy == reloading && isStopping(err) {", "if false && isStopping(err) {",
		[]string{controlTests + " WorkerThatLeaves"},
	},
	{
		"a reload after an unexpected answer", "haproxy/control/loop.go",
		"	a.force(ReasonUnexpected)\n", "",
		[]string{controlTests + " Unexpected"},
	},
	{
		"the worker's identity before commands", "haproxy/control/runtime.go",
		"if w != (Worker{}) && r.worker != w {", "if false && r.worker != w {",
		[]string{controlTests + " Runtime|Worker|Batch|Killed"},
	},
	{
		"every answer is read", "haproxy/control/runtime.go",
		"return addrAnswer.MatchString(answer)", "return true",
		[]string{controlTests + " Runtime|Answer|Expected|Batch|Unexpected"},
	},
	{
		"which worker answers, as the proof of a reload", "haproxy/control/reload.go",
		"if err == nil && info.PID == pid {", "if err == nil {",
		[]string{controlTests + " Proof"},
	},
	{
		"the mark that a reload is under way", "haproxy/control/reload.go",
		"if r.err = a.pub.write(markName, []byte(\"reloading\\n\")); r.err != nil {", "if r.err != nil {",
		[]string{controlTests + " FilesThatNobody"},
	},
	{
		"what is wanted meanwhile waits for the new worker", "haproxy/control/loop.go",
		"	if a.mustWait(plan) {\n", "	if false && a.mustWait(plan) {\n",
		[]string{controlTests + " Forgets"},
	},
	{
		"what ends does not wait for the new worker", "haproxy/control/loop.go",
		"		a.end(ctx, began)\n", "",
		[]string{controlTests + " ReplacedHears"},
	},
	{
		"a failure is told to those alone who waited for what was tried", "haproxy/control/loop.go",
		"if w.seq > upTo {", "if false && w.seq > upTo {",
		[]string{controlTests + " OlderConf"},
	},
	{
		"servers come before the hosts that lead to them", "haproxy/diff.go",
		"Commands: append(d.come, d.leave...)", "Commands: append(d.leave, d.come...)",
		[]string{"haproxy"},
	},
	{
		"the last usable server stays", "haproxy/slots.go",
		"	keepLast(slots)\n", "",
		[]string{"haproxy"},
	},
	{
		"a task of unknown health waits for a check", "haproxy/diff.go",
		"	case t.Admin == Ready && admin != Ready && t.Gated:\n", "	case false && t.Gated:\n",
		[]string{"haproxy"},
	},
	{
		"a drain before a death", "haproxy/diff.go",
		"	case t.Admin == Drain && admin != Drain:\n", "	case false && t.Admin == Drain && admin != Drain:\n",
		[]string{"haproxy"},
	},
	{
		"a task of unknown health is first checked soon", "haproxy/pace.go",
		"	case gated:\n		return Quick\n", "	case gated:\n		return Far\n",
		[]string{"haproxy Newcomers|Pace"},
	},
	{
		"far tasks are checked seldom", "haproxy/pace.go",
		"	return max(o.spread(farRate, farLeast, 10*time.Minute), own)\n", "	return own\n",
		[]string{"haproxy Checks|Pace"},
	},
	{
		"a spare backend that is left is not taken before it is at rest", "haproxy/spares.go",
		"	return b.Retired && !b.Resting && isSpare", "	return b.Retired && isSpare",
		[]string{"haproxy Spare"},
	},
	{
		"requests in a spare backend keep it from rest", "haproxy/control/rest.go",
		" || stats[0].Current > 0 {", " {",
		[]string{controlTests + " ARequestKeeps"},
	},
	{
		"the pause before a backend that was left is emptied", "haproxy/control/rest.go",
		"		if now.Sub(began) >= leaveAfter {\n", "		if true || now.Sub(began) >= leaveAfter {\n",
		[]string{controlTests + " WhatIsLeft"},
	},
	{
		"a service's new backend serves before its old one is emptied", "haproxy/diff.go",
		"		d.left = append(d.left, b.Name)\n", "		d.servers(b, b.retire())\n",
		[]string{"haproxy Spare"},
	},
	{
		"servers of a new backend come before its names and hosts", "haproxy/diff.go",
		"	d.come = append(d.come, come...)\n	d.leave = append(leave, d.leave...)\n", "	d.come = append(come, d.come...)\n	d.leave = append(leave, d.leave...)\n",
		[]string{"haproxy Spare|SafeOrder"},
	},
	{
		"many entries of a map are set in one moment", "haproxy/diff.go",
		"	if sets > d.mass || twice {", "	if twice {",
		[]string{"haproxy ManyEntries"},
	},
	{
		"many entries of a map go in one moment", "haproxy/diff.go",
		"	if len(leave) > d.mass {", "	if false && len(leave) > d.mass {",
		[]string{"haproxy ManyEntries"},
	},
	{
		"a map that has a key twice is replaced", "haproxy/diff.go",
		"	if sets > d.mass || twice {", "	if sets > d.mass {",
		[]string{"haproxy ManyEntries"},
	},
	{
		"a map is committed once all its entries were accepted", "haproxy/control/runtime.go",
		"		case i > 0 && strings.HasPrefix(c, \"commit map \"):\n			return i\n", "",
		[]string{controlTests + " Batch|WholeMaps"},
	},
	{
		"the deadline of a drain", "haproxy/control/drains.go",
		"now.Sub(known.since) >= most {", "false && now.Sub(known.since) >= most {",
		[]string{controlTests + " ADrainEnds"},
	},
	{
		"the cut of what outlives a drain", "haproxy/control/jobs.go",
		"	case len(a.drains) > 0 && len(a.drains.uncut(a.running)) > 0:\n", "	case false && len(a.drains.uncut(a.running)) > 0:\n",
		[]string{controlTests + " ADrainEnds"},
	},
	{
		"tasks follow during a hold", "hold.go",
		"s.Deployment, s.Endpoints = r.live.Deployment, r.endpoints()", "s.Deployment, s.Endpoints = r.live.Deployment, r.frozen.Endpoints",
		[]string{". Hold"},
	},
	{
		"what was given before a kill -9 stays until something is wanted", "haproxy/control/renew.go",
		"a.cfg.Certificates.changes(), a.effective == nil", "a.cfg.Certificates.changes(), false",
		[]string{"test/machine Regressions/the_controller_is_killed"},
	},
	{
		"hub: a push that was added is not added again", "metrics/hub/server.go",
		"if h.sequence <= n.Sequence {", "if false {",
		[]string{"metrics/hub EveryRequestOnce"},
	},
	{
		"hub: a push is sent again as it was", "metrics/hub/pusher.go",
		"if o.pending == nil {", "if true {",
		[]string{"metrics/hub EveryRequestOnce|HubsCome"},
	},
	{
		"hub: the last words", "metrics/hub/pusher.go",
		"for range 2 {", "for range 0 {",
		[]string{"metrics/hub HubsCome|MachineStarts"},
	},
	{
		"hub: a snapshot that was changed on its way is refused", "metrics/binary.go",
		"if crc32.Checksum(body, castagnoli) != sum {", "if false && crc32.Checksum(body, castagnoli) != sum {",
		[]string{"metrics BinaryForm"},
	},
	{
		"the kernel's drops are counted", "metrics/intake.go",
		"Dropped: uint64(n)}", "Dropped: 0 * uint64(n)}",
		[]string{"metrics Datagrams"},
	},
	{
		"the label log keeps requests out of sight", "metrics/watch.go",
		"if !s.about.Shown.allows(f) {", "if false {",
		[]string{"metrics OutOfSight"},
	},
	{
		"sinks: the bound of the queue", "metrics/sink/queue.go",
		"for q.bytes > q.limit && cut", "for false && cut",
		[]string{"metrics/sink Oldest|Long"},
	},
	{
		"sinks: what is dropped is counted", "metrics/sink/queue.go",
		"dropped += q.frames[cut].points", "dropped += 0",
		[]string{"metrics/sink Oldest|Long"},
	},
	{
		"sinks: each step has a deadline", "metrics/sink/wire.go",
		"g.SetDeadline(time.Now().Add(g.patience))", "g.SetDeadline(time.Time{})",
		[]string{"metrics/sink Outages"},
	},
	{
		"sinks: the server's closing says that it has read everything", "metrics/sink/graphite.go",
		"io.LimitReader(conn.Conn, 1<<16)", "io.LimitReader(conn.Conn, 0)",
		[]string{"metrics/sink Outages|Hostile"},
	},
	{
		"sinks: datagrams that nobody listens to are sent again", "metrics/sink/wire.go",
		"if number != 0 {", "if false {",
		[]string{"metrics/sink StatsDOutages"},
	},
	{
		"sinks: an earlier run's last interval is not replaced", "metrics/sink/pusher.go",
		"Add(2 * every)", "Add(every)",
		[]string{"metrics/sink Intervals"},
	},
}
