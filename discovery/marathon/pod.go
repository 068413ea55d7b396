package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"signalbox"
)

// Pod is what Marathon says about one pod in /v2/pods/::status and /v2/pods/{id}::status: the fields that routing needs.
type Pod struct {
	ID        string        `json:"id"`
	Spec      podSpec       `json:"spec"`
	Instances []podInstance `json:"instances"`
}

type podSpec struct {
	Version    string         `json:"version"`
	Labels     texts          `json:"labels"`
	Networks   []network      `json:"networks"`
	Containers []podContainer `json:"containers"`
}

type podContainer struct {
	Name        string          `json:"name"`
	Endpoints   []podEndpoint   `json:"endpoints"`
	HealthCheck *podHealthCheck `json:"healthCheck"`
}

type podEndpoint struct {
	Name          string   `json:"name"`
	ContainerPort number   `json:"containerPort"`
	Protocol      []string `json:"protocol"`
	Labels        texts    `json:"labels"`
	NetworkNames  []string `json:"networkNames"`
}

type podHealthCheck struct {
	HTTP *struct {
		Endpoint string `json:"endpoint"`
		Path     string `json:"path"`
		Scheme   string `json:"scheme"`
	} `json:"http"`
	IntervalSeconds number `json:"intervalSeconds"`
	TimeoutSeconds  number `json:"timeoutSeconds"`
	MaxFailures     number `json:"maxConsecutiveFailures"`
}

type podInstance struct {
	ID            string `json:"id"`
	Status        string `json:"status"`
	AgentHostname string `json:"agentHostname"`
	SpecReference string `json:"specReference"`
	Networks      []struct {
		Name      string   `json:"name"`
		Addresses []string `json:"addresses"`
	} `json:"networks"`
	Containers []podTask `json:"containers"`
}

type podTask struct {
	Name        string `json:"name"`
	Status      string `json:"status"`
	ContainerID string `json:"containerId"`
	Endpoints   []struct {
		Name              string `json:"name"`
		AllocatedHostPort number `json:"allocatedHostPort"`
		Healthy           *bool  `json:"healthy"`
	} `json:"endpoints"`
	Conditions []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"conditions"`
}

// DecodePods reads the body of /v2/pods/::status, of at most limit bytes. A Marathon without pods says so by an empty list.
func DecodePods(r io.Reader, limit int64) ([]*Pod, []BadApp, error) {
	dec := json.NewDecoder(&cappedReader{r: r, left: limit})
	pods, bad, err := decodePods(dec)
	if err != nil {
		return nil, nil, fmt.Errorf("reading pods: %w", err)
	}
	return pods, bad, nil
}

func decodePods(dec *json.Decoder) ([]*Pod, []BadApp, error) {
	first, err := dec.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, ErrEmpty
	case err != nil:
		return nil, nil, bodyError(err)
	case first != json.Delim('['):
		return nil, nil, ErrNoApps
	}
	pods := []*Pod{}
	var bad []BadApp
	for dec.More() {
		pod := &Pod{}
		err := dec.Decode(pod)
		if err != nil && !isLocal(err) {
			return nil, nil, bodyError(err)
		}
		if err == nil {
			err = pod.check()
		}
		if err != nil {
			bad = append(bad, badApp(pod.ID, err))
			continue
		}
		pods = append(pods, pod)
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, bodyError(err)
	}
	if err := atEnd(dec); err != nil {
		return nil, nil, err
	}
	return pods, bad, nil
}

// DecodePod reads the body of /v2/pods/{id}::status, of at most limit bytes.
func DecodePod(r io.Reader, limit int64) (*Pod, error) {
	dec := json.NewDecoder(&cappedReader{r: r, left: limit})
	pod := &Pod{}
	err := dec.Decode(pod)
	switch {
	case errors.Is(err, io.EOF):
		err = ErrEmpty
	case err != nil:
		err = bodyError(err)
	default:
		err = pod.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading a pod: %w", err)
	}
	return pod, nil
}

func (p *Pod) check() error {
	if err := checkID(p.ID); err != nil {
		return err
	}
	if p.Spec.Labels.broken {
		return errors.New("its labels are no object")
	}
	return nil
}

// podPort is one endpoint of one container of a pod.
type podPort struct {
	portSpec
	of       string // the container's name
	endpoint string // its name within the container
	checked  bool   // the container has a health check
}

// ports returns the endpoints of all containers, in the order of the definition.
func (p *Pod) ports() []podPort {
	var ports []podPort
	for _, c := range p.Spec.Containers {
		for _, e := range c.Endpoints {
			port := podPort{of: c.Name, endpoint: e.Name, checked: c.HealthCheck != nil}
			port.portSpec = portSpec{
				index: len(ports), name: wordOrNone(e.Name), protocol: strings.Join(e.Protocol, ","), container: int(e.ContainerPort),
				networkNames: e.NetworkNames, labels: e.Labels.byName,
			}
			port.probe.of = port.index
			if h := c.HealthCheck; h != nil {
				p := &port.probe
				p.found, p.check = true, timing(h.IntervalSeconds, h.TimeoutSeconds, h.MaxFailures)
				if h.HTTP != nil && h.HTTP.Endpoint == e.Name {
					tls := strings.EqualFold(h.HTTP.Scheme, "https")
					if p.protocol = "HTTP"; tls {
						p.protocol = "HTTPS"
					}
					if path, ok := checkPath(h.HTTP.Path); ok {
						p.check.Kind, p.check.Path, p.check.TLS = signalbox.CheckHTTP, path, tls
					}
				}
			}
			ports = append(ports, port)
		}
	}
	return ports
}

// ConvertPod returns the services of a pod, one for each endpoint that its labels do not switch off; else as Convert.
func ConvertPod(pod *Pod, o Options) ([]*signalbox.Service, []signalbox.Problem) {
	ports := pod.ports()
	specs := make([]portSpec, len(ports))
	for i := range ports {
		specs[i] = ports[i].portSpec
	}
	since, err := time.Parse(time.RFC3339Nano, pod.Spec.Version)
	if err != nil {
		since = time.Time{}
	}
	b := newBuilder(pod.ID, pod.Spec.Version, since.UTC(), specs, pod.Spec.Labels.byName, &o)
	for i := range pod.Instances {
		in := &pod.Instances[i]
		if in.Status == "TERMINAL" || in.Status == "PENDING" || in.Status == "STAGING" {
			continue
		}
		_, version, _ := strings.Cut(in.SpecReference, "::versions/")
		places := make([]place, len(ports))
		for k := range ports {
			places[k] = place{none: true}
			for j := range in.Containers {
				if c := &in.Containers[j]; c.Name == ports[k].of {
					host, _ := c.endpoint(ports[k].endpoint)
					places[k] = in.place(&ports[k], host, &o)
				}
			}
		}
		for j := range in.Containers {
			c := &in.Containers[j]
			id := c.id(in)
			if !isWord(id) {
				b.refuse(id)
				continue
			}
			for k := range ports {
				port := &ports[k]
				if port.of != c.Name {
					continue
				}
				_, healthy := c.endpoint(port.endpoint)
				state, why, ok := c.state(id, healthy, port.checked, &o)
				if !ok {
					continue
				}
				b.add(k, signalbox.Endpoint{Task: id, Host: wordOrNone(in.AgentHostname), Version: version, State: state, Why: why}, places)
			}
		}
	}
	return b.done()
}

// id returns the task's id; a container that does not run yet has none of its own.
func (c *podTask) id(in *podInstance) string {
	if c.ContainerID != "" {
		return c.ContainerID
	}
	return in.ID + "." + c.Name
}

// endpoint returns what the container says of an endpoint: the agent's port, or 0, and its health.
func (c *podTask) endpoint(name string) (hostPort int, healthy *bool) {
	for _, e := range c.Endpoints {
		if e.Name == name {
			hostPort, healthy = int(e.AllocatedHostPort), e.Healthy
		}
	}
	for _, cond := range c.Conditions {
		if healthy == nil && cond.Name == "healthy" {
			v := cond.Value == "true"
			healthy = &v
		}
	}
	return hostPort, healthy
}

func (c *podTask) state(id string, healthy *bool, checked bool, o *Options) (signalbox.State, string, bool) {
	t := Task{State: c.Status}
	switch t.presence() {
	case absent:
		return "", "", false
	case dying:
		return signalbox.Draining, "it is being killed", true
	case lost, unheardOf:
		return signalbox.Suspect, "its state is " + printableWord(c.Status), true
	}
	op := unasked
	switch {
	case healthy != nil && *healthy:
		op = passing
	case healthy != nil:
		op = failing
	case checked:
		op = silent
	}
	state, why := judge(op, id, o)
	return state, why, true
}

// place is where an endpoint of this instance answers: on its agent, if a port was allocated there, else in its own network.
func (in *podInstance) place(port *podPort, hostPort int, o *Options) place {
	if hostPort != 0 {
		return onceAgent(in.AgentHostname, o)(hostPort)
	}
	if port.container == 0 {
		return place{trouble: "the endpoint has no port, neither in the container nor on the agent"}
	}
	return firstAddress(in.within(port.networkNames), port.container, o)
}

// within returns the instance's addresses in the first of the named networks that it is in; without a name all of them.
func (in *podInstance) within(names []string) (addresses []string) {
	for _, name := range names {
		for _, n := range in.Networks {
			if n.Name == name {
				return n.Addresses
			}
		}
	}
	if len(names) > 0 {
		return nil
	}
	for _, n := range in.Networks {
		addresses = append(addresses, n.Addresses...)
	}
	return addresses
}

// Verdicts returns, for each container that this read judges, whether it is alive, as App.Verdicts does for tasks.
func (p *Pod) Verdicts() map[string]bool {
	verdicts := map[string]bool{}
	for _, port := range p.ports() {
		for i := range p.Instances {
			for j := range p.Instances[i].Containers {
				c := &p.Instances[i].Containers[j]
				id := c.id(&p.Instances[i])
				if _, healthy := c.endpoint(port.endpoint); c.Name == port.of && healthy != nil {
					if was, ok := verdicts[id]; !ok || was {
						verdicts[id] = *healthy
					}
				}
			}
		}
	}
	return verdicts
}
