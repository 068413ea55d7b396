package devcluster

import (
	"encoding/json"
	"strconv"
	"time"
)

// pod is a pod's definition: what is run of it, and its JSON as it was given.
type pod struct {
	ID         string                     `json:"id"`
	User       string                     `json:"user"`
	Labels     map[string]string          `json:"labels"`
	Env        map[string]json.RawMessage `json:"environment"`
	Containers []podContainer             `json:"containers"`
	Networks   []network                  `json:"networks"`
	Scaling    *struct {
		Kind      string `json:"kind"`
		Instances *int   `json:"instances"`
	} `json:"scaling"`

	raw map[string]json.RawMessage
}

type podContainer struct {
	Name string `json:"name"`
	Exec struct {
		Command struct {
			Shell string   `json:"shell"`
			Argv  []string `json:"argv"`
		} `json:"command"`
	} `json:"exec"`
	Image *struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	} `json:"image"`
	User      string                     `json:"user"`
	Env       map[string]json.RawMessage `json:"environment"`
	Endpoints []podEndpoint              `json:"endpoints"`
}

type podEndpoint struct {
	Name          string `json:"name"`
	ContainerPort *int   `json:"containerPort"`
	HostPort      *int   `json:"hostPort"`
}

func (c podContainer) image() string {
	if c.Image == nil {
		return ""
	}
	return c.Image.ID
}

func (p *pod) container(name string) podContainer {
	for _, c := range p.Containers {
		if c.Name == name {
			return c
		}
	}
	return podContainer{}
}

// environment is the pod's variables, and over them the container's.
func (p *pod) environment(name string) map[string]json.RawMessage {
	env := map[string]json.RawMessage{}
	for k, v := range p.Env {
		env[k] = v
	}
	for k, v := range p.container(name).Env {
		env[k] = v
	}
	return env
}

func (p *pod) sameConfig(o *pod) bool {
	strip := func(p *pod) string {
		m := map[string]json.RawMessage{}
		for k, v := range p.raw {
			if k != "scaling" && k != "version" {
				m[k] = v
			}
		}
		return string(encode(m))
	}
	return strip(p) == strip(o)
}

// parsePod reads a pod, and makes the app that stands for it.
func parsePod(body []byte, id string) (*app, error) {
	var p pod
	if err := decode(body, &p.raw); err != nil {
		return nil, err
	}
	if err := decode(body, &p); err != nil {
		return nil, err
	}
	if id == "" {
		id = absolute(p.ID, "/")
	}
	p.ID = id
	p.raw["id"] = encode(id)
	delete(p.raw, "version")
	var bad []detail
	if !validID(id) {
		bad = append(bad, detail{"/id", []string{"must be a valid id"}})
	}
	if len(p.Containers) == 0 {
		bad = append(bad, detail{"/containers", []string{"must not be empty"}})
	}
	seen := map[string]bool{}
	for n, c := range p.Containers {
		if c.Name == "" || seen[c.Name] {
			bad = append(bad, detail{"/containers(" + strconv.Itoa(n) + ")/name", []string{"container names must be given, and unique"}})
		}
		seen[c.Name] = true
	}
	if bad != nil {
		return nil, invalid(bad...)
	}
	a := defaultApp("1.11")
	a.ID, a.pod, a.Labels, a.Networks = id, &p, p.Labels, p.Networks
	if p.Scaling != nil && p.Scaling.Instances != nil {
		a.Instances = *p.Scaling.Instances
	}
	a.PortDefinitions = []portDefinition{}
	a.Networks = nil
	for _, n := range p.Networks {
		if n.Mode == "" {
			n.Mode = modeContainer
		}
		a.Networks = append(a.Networks, n)
	}
	if len(a.Networks) == 0 {
		a.Networks = []network{{Mode: modeHost}}
	}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	defaults := map[string]any{
		"labels": a.Labels, "networks": a.Networks, "environment": map[string]string{}, "volumes": []int{}, "fetch": []int{},
		"scaling": map[string]any{"kind": "fixed", "instances": a.Instances},
	}
	for k, v := range defaults {
		if raw, ok := p.raw[k]; !ok || string(raw) == "null" {
			p.raw[k] = encode(v)
		}
	}
	return a, nil
}

// podJSON is a pod's definition.
func podJSON(a *app) json.RawMessage {
	m := map[string]json.RawMessage{"version": encode(a.Version)}
	for k, v := range a.pod.raw {
		m[k] = v
	}
	return encode(m)
}

// podEnvironment is what Marathon sets in a pod's container: all endpoints of the pod.
func (c *cluster) podEnvironment(p *part, env map[string]string) {
	i := p.inst
	env["MARATHON_APP_ID"] = i.spec.ID
	env["MARATHON_APP_VERSION"] = i.version.String()
	env["MARATHON_CONTAINER_ID"] = p.name
	for n, ct := range i.spec.pod.Containers {
		for k, e := range ct.Endpoints {
			port := 0
			if k < len(i.parts[n].ports) && i.parts[n].ports[k] > 0 {
				port = i.parts[n].ports[k]
			} else if e.ContainerPort != nil {
				port = *e.ContainerPort
			}
			env["ENDPOINT_"+envName(e.Name)] = strconv.Itoa(port)
			env["EP_HOST_"+envName(e.Name)] = strconv.Itoa(port)
			env["EP_CONTAINER_"+envName(e.Name)] = strconv.Itoa(port)
		}
	}
}

// podStatus is a pod with its instances.
func (c *cluster) podStatus(a *runApp) json.RawMessage {
	list := []json.RawMessage{}
	stable := len(a.instances) == a.spec.Instances
	for _, i := range a.instances {
		status := "STABLE"
		if i.condition != "Running" {
			status, stable = "PENDING", false
			if i.condition == "Starting" || i.condition == "Staging" {
				status = "STAGING"
			}
		}
		since := i.staged
		if !i.started.IsZero() {
			since = i.started
		}
		containers := []json.RawMessage{}
		for n, p := range i.parts {
			ends := []json.RawMessage{}
			for k, e := range i.spec.pod.Containers[n].Endpoints {
				f := []field{{"name", e.Name}}
				if k < len(p.ports) && p.ports[k] > 0 {
					f = append(f, field{"allocatedHostPort", p.ports[k]})
				}
				ends = append(ends, object(f))
			}
			containers = append(containers, object([]field{
				{"name", p.name},
				{"status", p.state},
				{"statusSince", since},
				{"containerId", p.task},
				{"endpoints", ends},
				{"conditions", []string{}},
				{"lastUpdated", since},
				{"lastChanged", since},
			}))
		}
		networks := []json.RawMessage{}
		if i.ip != "" {
			f := []field{}
			if name := i.spec.Networks[0].Name; name != nil {
				f = append(f, field{"name", *name})
			}
			networks = append(networks, object(append(f, field{"addresses", []string{i.ip}})))
		}
		list = append(list, object([]field{
			{"id", i.id},
			{"status", status},
			{"statusSince", since},
			{"conditions", []string{}},
			{"agentHostname", i.host},
			{"agentId", i.slave.id},
			{"resources", map[string]float64{"cpus": i.spec.CPUs, "mem": i.spec.Mem, "disk": i.spec.Disk, "gpus": 0}},
			{"networks", networks},
			{"containers", containers},
			{"specReference", "/v2/pods" + i.spec.ID + "::versions/" + i.version.String()},
			{"lastUpdated", since},
			{"lastChanged", since},
		}))
	}
	status := "STABLE"
	switch {
	case a.gone:
		status = "TERMINAL"
	case !stable:
		status = "DEGRADED"
	}
	now := stamp{time.Now().UTC()}
	return object([]field{
		{"id", a.spec.ID},
		{"spec", podJSON(a.spec)},
		{"status", status},
		{"statusSince", a.spec.Version},
		{"instances", list},
		{"terminationHistory", []string{}},
		{"lastUpdated", now},
		{"lastChanged", a.spec.Version},
	})
}
