package devcluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// appTasks answers …/tasks and …/tasks/{id} of one app, or of a group when the id ends with "/*".
func (p *call) appTasks(id, task string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var apps []*runApp
	if group, ok := strings.CutSuffix(id, "/*"); ok {
		if group == "" {
			group = "/"
		}
		if !p.groupExists(group) {
			return failure(http.StatusNotFound, "Group '%s' does not exist", group)
		}
		apps = p.appsIn(group)
	} else {
		a, err := p.find(id)
		if err != nil {
			return err
		}
		apps = []*runApp{a}
	}
	var parts []*part
	for _, a := range apps {
		for _, i := range a.instances {
			for _, pt := range i.parts {
				host := p.q.Get("host")
				if !pt.ended && (task == "" || pt.task == task || i.id == task) && (host == "" || host == i.host || p.r.Method == http.MethodGet) {
					parts = append(parts, pt)
				}
			}
		}
	}
	switch {
	case p.r.Method == http.MethodGet && task == "":
		if strings.HasPrefix(p.r.Header.Get("Accept"), "text/plain") {
			return p.tasksText(apps)
		}
		return p.json(http.StatusOK, object([]field{{"tasks", p.partsJSON(parts, false)}}))
	case p.r.Method != http.MethodDelete:
		return errMethod
	case task != "" && len(parts) == 0:
		return failure(http.StatusNotFound, "Task '%s' does not exist", task)
	}
	return p.killTasks(parts, func() error {
		if task != "" {
			return p.json(http.StatusOK, object([]field{{"task", p.taskJSON(parts[0], false)}}))
		}
		return p.json(http.StatusOK, object([]field{{"tasks", p.partsJSON(parts, false)}}))
	})
}

func (p *call) partsJSON(parts []*part, servicePorts bool) []json.RawMessage {
	all := []json.RawMessage{}
	for _, pt := range parts {
		all = append(all, p.taskJSON(pt, servicePorts))
	}
	return all
}

// killTasks kills, as ?scale and ?wipe say, and answers. The lock is held.
func (p *call) killTasks(parts []*part, answer func() error) error {
	scale, wipe := p.flag("scale"), p.flag("wipe")
	if scale && wipe {
		return failure(http.StatusBadRequest, "You cannot use scale and wipe at the same time.")
	}
	if !scale {
		err := answer()
		for _, pt := range parts {
			p.kill(pt.inst, "")
			p.touch(pt.inst.app)
		}
		return err
	}
	changes := map[string]change{}
	var victims []*instance
	for _, pt := range parts {
		if slices.Contains(victims, pt.inst) || !pt.inst.live() {
			continue
		}
		victims = append(victims, pt.inst)
		a := pt.inst.app
		ch, ok := changes[a.spec.ID]
		if !ok {
			ch = change{before: a.spec, after: a.spec.clone()}
		}
		ch.after.Instances = max(0, ch.after.Instances-1)
		changes[a.spec.ID] = ch
	}
	for id, ch := range changes {
		ch.after = p.versioned(ch.after, ch.before)
		changes[id] = ch
	}
	d, err := p.deploy(changes, p.flag("force"), func(v stamp) {
		p.publishGroup("/", v)
		for _, i := range victims { // these rather than any others
			p.kill(i, "")
		}
	})
	if err != nil {
		return err
	}
	return p.result(http.StatusOK, d)
}

func (p *call) tasksAPI(rest string) error {
	if rest == "delete" && p.r.Method == http.MethodPost {
		var body struct {
			IDs []string `json:"ids"`
		}
		if err := decode(p.body, &body); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		var parts []*part
		for _, id := range body.IDs {
			if !strings.Contains(id, ".") {
				return failure(http.StatusBadRequest, "unable to parse id: %s", id)
			}
			if pt := p.parts[id]; pt != nil {
				parts = append(parts, pt)
			}
		}
		return p.killTasks(parts, func() error {
			return p.json(http.StatusOK, object([]field{{"tasks", p.partsJSON(parts, false)}}))
		})
	}
	if rest != "" {
		return errNotFound
	}
	if p.r.Method != http.MethodGet {
		return errMethod
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.HasPrefix(p.r.Header.Get("Accept"), "text/plain") {
		return p.tasksText(p.appsIn("/"))
	}
	states := slices.Concat(p.q["status"], p.q["status[]"])
	for _, s := range states {
		if s != "running" && s != "staging" {
			return failure(http.StatusUnprocessableEntity, "Unknown status %s. Must be running or staging.", s)
		}
	}
	all := []json.RawMessage{}
	for _, a := range p.appsIn("/") {
		for _, i := range a.instances {
			for _, pt := range i.parts {
				is := "staging"
				if pt.state == running || pt.state == killing {
					is = "running"
				}
				if !pt.ended && (len(states) == 0 || slices.Contains(states, is)) {
					all = append(all, p.taskJSON(pt, true))
				}
			}
		}
	}
	return p.json(http.StatusOK, object([]field{{"tasks", all}}))
}

// tasksText is the form for load balancers: a line for each app and service port, which 1.11 has no more.
func (p *call) tasksText(apps []*runApp) error {
	if p.cfg.Emulate != "1.4" {
		return &apiError{status: http.StatusNotAcceptable, message: "HTTP 406 Not Acceptable"}
	}
	var b strings.Builder
	for _, a := range apps {
		name := strings.ReplaceAll(strings.TrimPrefix(a.spec.ID, "/"), "/", "_")
		ports := a.spec.servicePorts()
		if len(ports) == 0 {
			ports = []int{0}
		}
		for n, port := range ports {
			if len(a.spec.servicePorts()) == 0 {
				fmt.Fprintf(&b, "%s\t \t", name)
			} else {
				fmt.Fprintf(&b, "%s\t%d\t", name, port)
			}
			for _, i := range a.instances {
				if i.running() && n < len(i.hostPorts) {
					fmt.Fprintf(&b, "%s:%d\t", i.host, i.hostPorts[n])
				}
			}
			b.WriteString("\n")
		}
	}
	reply(p.w, p.r, http.StatusOK, "text/plain", []byte(b.String()))
	return nil
}

func (p *call) deploymentsAPI(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == "" {
		if p.r.Method != http.MethodGet {
			return errMethod
		}
		all := []json.RawMessage{}
		for _, d := range p.deployments {
			all = append(all, p.deploymentJSON(d))
		}
		return p.json(http.StatusOK, encode(all))
	}
	if p.r.Method != http.MethodDelete {
		return errMethod
	}
	n := slices.IndexFunc(p.deployments, func(d *deployment) bool { return d.id == id })
	if n < 0 {
		return failure(http.StatusNotFound, "DeploymentPlan %s does not exist", id)
	}
	d := p.deployments[n]
	if p.flag("force") {
		p.cancelDeployment(d)
		p.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	back, err := p.rollback(d)
	if err != nil {
		return err
	}
	return p.result(http.StatusOK, back)
}

func (p *call) queueAPI(rest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id, ok := strings.CutSuffix(rest, "/delay"); ok && p.r.Method == http.MethodDelete {
		a := p.apps["/"+id]
		if a == nil || a.gone || a.running() >= a.goal {
			return failure(http.StatusNotFound, "Application /%s not found in tasks queue.", id)
		}
		p.resetDelay(a)
		p.touch(a)
		p.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if rest != "" {
		return errNotFound
	}
	list := []json.RawMessage{}
	for _, id := range sortedKeys(p.apps) {
		a := p.apps[id]
		count := a.goal - a.running()
		if a.gone || count <= 0 {
			continue
		}
		left := max(0, int(time.Until(a.notBefore).Round(time.Second).Seconds()))
		name, def := "app", json.RawMessage(p.definition(a.spec))
		if a.spec.pod != nil {
			name, def = "pod", podJSON(a.spec)
		}
		since := a.queuedSince
		if since.IsZero() {
			since = stamp{time.Now()}
		}
		f := []field{
			{"count", count},
			{"delay", json.RawMessage(object([]field{{"timeLeftSeconds", left}, {"overdue", left == 0}}))},
			{"since", since},
			{"processedOffersSummary", json.RawMessage(`{"processedOffersCount":0,"unusedOffersCount":0,"rejectSummaryLastOffers":[],"rejectSummaryLaunchAttempt":[]}`)},
			{name, def},
		}
		if p.cfg.Emulate != "1.4" {
			f = append(f, field{"role", a.spec.Role})
		}
		if slices.Contains(p.q["embed"], "lastUnusedOffers") {
			f = append(f, field{"lastUnusedOffers", []string{}})
		}
		list = append(list, object(f))
	}
	return p.json(http.StatusOK, object([]field{{"queue", list}}))
}
