package main

// mutant takes one safeguard away: in file, the text old, which is there once, becomes replaced.
type mutant struct {
	name          string // of the safeguard
	file          string
	old, replaced string
	tests         []string // packages, each perhaps with a pattern of its tests that matter, after a space
}

const (
	controlTests = "haproxy/control"
	machineTests = "test/machine"
)

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
		[]string{controlTests},
	},
	{
		"fsync of the directory", "haproxy/control/publish.go",
		"	if err := p.disk.SyncDir(p.dir); err != nil {\n		p.published = nil\n", "	if err := error(nil); err != nil {\n		p.published = nil\n",
		[]string{controlTests + " Publish|Disk|Crash|Fail|Power"},
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
		"compare with what runs", "haproxy/control/loop.go",
		"plan := a.cfg.Diff(a.running, a.effective)", "plan := a.cfg.Diff(cmp.Or(a.onDisk, a.running), a.effective)",
		[]string{controlTests, machineTests},
	},
	{
		"repair of what an audit finds", "haproxy/control/jobs.go",
		"	case len(r.diffs) > 0:\n", "	case false && len(r.diffs) > 0:\n",
		[]string{controlTests + " Audit", machineTests},
	},
	{
		"the audit's look at free slots", "haproxy/control/readback.go",
		"anyAddr := s.Admin == haproxy.Maint && !s.Addr.IsValid()", "anyAddr := s.Admin == haproxy.Maint",
		[]string{machineTests + " Regressions"},
	},
	{
		"memory of rejected configurations", "haproxy/control/check.go",
		"if v, ok := c.known(hash); ok {", "if v, ok := c.known(hash); false && ok {",
		[]string{controlTests + " Check|Reject|Known"},
	},
	{
		"waiting after a reload that failed", "haproxy/control/jobs.go",
		"if now.Before(a.retryAt) || now.Sub(a.lastTry) < a.cfg.ReloadInterval {", "if now.Sub(a.lastTry) < a.cfg.ReloadInterval {",
		[]string{controlTests},
	},
	{
		"the interval between reloads", "haproxy/control/jobs.go",
		"if now.Before(a.retryAt) || now.Sub(a.lastTry) < a.cfg.ReloadInterval {", "if now.Before(a.retryAt) {",
		[]string{controlTests},
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
		[]string{controlTests, machineTests},
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
		[]string{controlTests, machineTests},
	},
	{
		"the mark that a reload is under way", "haproxy/control/reload.go",
		"if r.err = a.pub.write(markName, []byte(\"reloading\\n\")); r.err != nil {", "if r.err != nil {",
		[]string{controlTests + " Crash|Recover|Killed|State"},
	},
	{
		"what is wanted meanwhile waits for the new worker", "haproxy/control/loop.go",
		"	if a.mustWait(plan) {\n", "	if false && a.mustWait(plan) {\n",
		[]string{controlTests},
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
}
