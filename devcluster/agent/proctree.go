package agent

import (
	"bytes"
	"os"
	"strconv"
)

// process is one line of the kernel's process table.
type process struct {
	pid, parent, group int
	zombie             bool
}

// processTable reads every process that can be seen. A process that ends meanwhile is left out.
func processTable() []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var table []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, stat); ok {
			table = append(table, p)
		}
	}
	return table
}

// parseStat reads the fields after the command's name, which may itself hold spaces and parentheses.
func parseStat(pid int, stat []byte) (process, bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return process{}, false
	}
	f := bytes.Fields(stat[end+1:])
	if len(f) < 3 {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(string(f[1]))
	group, err2 := strconv.Atoi(string(f[2]))
	if err1 != nil || err2 != nil {
		return process{}, false
	}
	return process{pid: pid, parent: parent, group: group, zombie: f[0][0] == 'Z' || f[0][0] == 'X'}, true
}

// descendants returns the processes below those of roots, roots left out.
func descendants(table []process, roots ...int) []process {
	below := make(map[int][]process)
	for _, p := range table {
		below[p.parent] = append(below[p.parent], p)
	}
	var found []process
	seen := make(map[int]bool)
	for len(roots) > 0 {
		next := roots[0]
		roots = roots[1:]
		if seen[next] {
			continue
		}
		seen[next] = true
		for _, p := range below[next] {
			found = append(found, p)
			roots = append(roots, p.pid)
		}
	}
	return found
}

// hasVariable reports whether a process was started with a variable of exactly this value in its environment.
func hasVariable(pid int, assignment string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if string(entry) == assignment {
			return true
		}
	}
	return false
}

// inSandbox reports whether a process was started with a MESOS_SANDBOX below root.
func inSandbox(pid int, root string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.HasPrefix(entry, []byte(sandboxVariable(root)+"/")) {
			return true
		}
	}
	return false
}
