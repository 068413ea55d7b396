package devcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"signalbox/devcluster/agent"
)

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// portPool gives out host ports that nobody listens on, the one freed longest ago last.
type portPool struct {
	first, last, next int
	used              map[int]bool
	elsewhere         bool // the ports are other machines', and nobody looks whether they are free
}

func newPortPool(first, last int) *portPool {
	return &portPool{first: first, last: last, next: first + rand.IntN(last-first+1), used: map[int]bool{}}
}

func (p *portPool) take() (int, bool) {
	for range p.last - p.first + 1 {
		port := p.next
		if p.next++; p.next > p.last {
			p.next = p.first
		}
		if (p.elsewhere || free(port)) && p.claim(port) {
			return port, true
		}
	}
	return 0, false
}

// free reports whether a task could listen on a port of every address.
func free(port int) bool {
	l, err := net.Listen("tcp4", ":"+strconv.Itoa(port)) //nolint:gosec // all addresses, because a task may want them all; closed at once
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// claim takes a port that an app names. As with Mesos, whose ports are a resource, nobody looks whether it is free.
func (p *portPool) claim(port int) bool {
	if p.used[port] {
		return false
	}
	p.used[port] = true
	return true
}

// wanted is one port that an instance asks for: 0 any, -1 none of the host's.
func (a *app) wanted() []int {
	var ports []int
	for _, d := range a.PortDefinitions {
		if a.RequirePorts {
			ports = append(ports, d.Port)
		} else {
			ports = append(ports, 0)
		}
	}
	if a.Container != nil && a.mode() != modeHost {
		for _, m := range a.Container.PortMappings {
			if m.HostPort == nil {
				ports = append(ports, -1)
			} else {
				ports = append(ports, *m.HostPort)
			}
		}
	}
	if a.pod != nil {
		for _, ct := range a.pod.Containers {
			for _, e := range ct.Endpoints {
				if e.HostPort == nil {
					ports = append(ports, -1)
				} else {
					ports = append(ports, *e.HostPort)
				}
			}
		}
	}
	return ports
}

// assign gives an instance its ports and addresses; false when there are none.
func (c *cluster) assign(i *instance) bool {
	wanted := i.spec.wanted()
	if i.spec.mode() == modeContainer {
		c.addrs++
		i.ip = netip.AddrFrom4([4]byte{127, byte(64 + c.addrs>>16&63), byte(c.addrs >> 8), byte(c.addrs)}).String()
	}
	all := make([]int, len(wanted))
	if c.placer != nil {
		n := 0
		for _, w := range wanted {
			if w >= 0 {
				n++
			}
		}
		addr, ports, err := c.placer.Place(i.parts[0].task, n)
		if err != nil {
			c.cfg.Log.WithError(err).Warn("no place for a task")
			return false
		}
		i.host, i.hostPorts = addr, ports
		if i.ip != "" {
			i.ip = addr
		}
		for k, w := range wanted {
			if all[k] = -1; w >= 0 {
				all[k], ports = ports[0], ports[1:]
			}
		}
	} else {
		for k, w := range wanted {
			port, ok := w, w < 0
			switch {
			case w == 0:
				port, ok = c.ports.take()
			case w > 0:
				ok = c.ports.claim(w)
			}
			if !ok {
				return false
			}
			if all[k] = port; port > 0 {
				i.hostPorts = append(i.hostPorts, port)
			}
		}
	}
	if i.spec.pod == nil {
		i.parts[0].ports = i.hostPorts
		return true
	}
	for n, ct := range i.spec.pod.Containers {
		i.parts[n].ports = all[:len(ct.Endpoints)]
		all = all[len(ct.Endpoints):]
	}
	return true
}

func (c *cluster) free(i *instance) {
	if c.placer != nil {
		return // the agent frees it
	}
	for _, p := range i.hostPorts {
		delete(c.ports.used, p)
	}
}

// errNeedsDocker is why an app with an image fails.
func errNeedsDocker(image string) error {
	return fmt.Errorf("this app needs Docker to run image %q, and the dev cluster runs local processes: give it a cmd and no image", image)
}

var errNothingToRun = errors.New("the app has neither cmd nor args")

// taskSpec is what the agent runs for a part.
func (c *cluster) taskSpec(p *part) (agent.Spec, error) {
	i, a := p.inst, p.inst.spec
	spec := agent.Spec{ID: p.task, App: a.ID, Version: i.version.String(), Addr: i.host, Ports: p.ports, Env: c.environment(p), Virtual: c.cfg.Virtual}
	if i.ip != "" {
		spec.Addr = i.ip
	}
	image := a.image()
	if a.pod != nil {
		ct := a.pod.container(p.name)
		spec.Shell, spec.Args, image = ct.Exec.Command.Shell, ct.Exec.Command.Argv, ct.image()
		if spec.User = ct.User; spec.User == "" {
			spec.User = a.pod.User
		}
	} else {
		if a.Cmd != nil {
			spec.Shell = *a.Cmd
		}
		spec.Args = a.Args
		if a.User != nil {
			spec.User = *a.User
		}
		for _, f := range a.Fetch {
			spec.Fetch = append(spec.Fetch, f.URI)
		}
	}
	switch {
	case c.cfg.Virtual:
		return spec, nil
	case image != "":
		return spec, errNeedsDocker(image)
	case spec.Shell == "" && len(spec.Args) == 0:
		return spec, errNothingToRun
	}
	return spec, nil
}

var notInName = regexp.MustCompile(`[^A-Z0-9_]`)

func envName(s string) string { return notInName.ReplaceAllString(strings.ToUpper(s), "_") }

// environment is the whole environment of a task, as KEY=value in order: what Mesos and Marathon set, and over it the app's own.
func (c *cluster) environment(p *part) []string {
	i, a := p.inst, p.inst.spec
	env := map[string]string{}
	for _, inherit := range []string{"PATH", "HOME", "LANG", "TMPDIR"} {
		if v, ok := os.LookupEnv(inherit); ok && len(c.cfg.RemoteAgents) == 0 {
			env[inherit] = v
		}
	}
	own := a.Env
	env["HOST"] = i.host
	env["MESOS_TASK_ID"] = p.task
	if i.ip != "" {
		env["MESOS_CONTAINER_IP"], env["LIBPROCESS_IP"] = i.ip, i.ip
	}
	prefix := "MARATHON_APP_"
	if a.pod != nil {
		c.podEnvironment(p, env)
		own = a.pod.environment(p.name)
	} else {
		env[prefix+"ID"] = a.ID
		env[prefix+"VERSION"] = i.version.String()
		if image := a.image(); image != "" {
			env[prefix+"DOCKER_IMAGE"] = image
		}
		env[prefix+"RESOURCE_CPUS"] = scalaDouble(a.CPUs)
		env[prefix+"RESOURCE_MEM"] = scalaDouble(a.Mem)
		env[prefix+"RESOURCE_DISK"] = scalaDouble(a.Disk)
		env[prefix+"RESOURCE_GPUS"] = strconv.Itoa(a.GPUs)
		var names []string
		for _, k := range sortedKeys(a.Labels) {
			if name := envName(k); len(a.Labels[k]) <= 512 {
				names = append(names, name)
				env[prefix+"LABEL_"+name] = a.Labels[k]
			}
		}
		env[prefix+"LABELS"] = strings.Join(names, " ")
		portEnvironment(i, env)
	}
	for k, raw := range own {
		var s string
		if json.Unmarshal(raw, &s) == nil { // a secret is an object, and there is no secret store
			env[k] = s
		}
	}
	list := make([]string, 0, len(env))
	for _, k := range sortedKeys(env) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// portEnvironment sets PORT, PORTS, PORT0…, PORT_<port> and PORT_<NAME>: the ports that the task shall listen on.
func portEnvironment(i *instance, env map[string]string) {
	a := i.spec
	type named struct {
		declared int
		name     *string
	}
	var defs []named
	var ports []int
	if a.mode() == modeHost {
		for n, d := range a.PortDefinitions {
			defs, ports = append(defs, named{d.Port, d.Name}), append(ports, i.hostPorts[n])
		}
	} else if a.Container != nil {
		host := i.hostPorts
		for _, m := range a.Container.PortMappings {
			port := m.ContainerPort
			if m.HostPort != nil {
				if a.mode() == modeBridge || port == 0 {
					port = host[0]
				}
				host = host[1:]
			}
			defs, ports = append(defs, named{m.ContainerPort, m.Name}), append(ports, port)
		}
	}
	var list []string
	for n, port := range ports {
		value := strconv.Itoa(port)
		list = append(list, value)
		env["PORT"+strconv.Itoa(n)] = value
		if defs[n].declared != 0 {
			env["PORT_"+strconv.Itoa(defs[n].declared)] = value
		}
		if name := defs[n].name; name != nil && *name != "" {
			env["PORT_"+envName(*name)] = value
		}
	}
	if len(list) > 0 {
		env["PORT"] = list[0]
	}
	env["PORTS"] = strings.Join(list, ",")
}
