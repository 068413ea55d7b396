package devcluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// bus hands events to the streams that listen. A stream that does not keep up is closed rather than waited for.
type bus struct {
	limit int
	count *counters

	mu    sync.Mutex
	subs  map[*subscriber]bool
	mute  time.Time // nothing is sent before
	calls []string  // callback URLs
}

type subscriber struct {
	remote, callback string
	types            []string
	light            bool
	frames           chan []byte
	gone             chan struct{} // closed by the bus
	once             sync.Once
}

func newBus(limit int, count *counters) *bus {
	return &bus{limit: limit, count: count, subs: map[*subscriber]bool{}}
}

func (s *subscriber) close() { s.once.Do(func() { close(s.gone) }) }

func (s *subscriber) wants(kind string) bool {
	return len(s.types) == 0 || slices.Contains(s.types, kind)
}

// publish sends an event to all that want it. Fields stand in the order given; heavy, if any, makes the form for clients that did
// not ask for light plans.
func (b *bus) publish(kind string, fields, heavy func() []field) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.event(kind)
	var small, big []byte
	for s := range b.subs {
		if !s.wants(kind) {
			continue
		}
		frame := &small
		members := fields
		if heavy != nil && !s.light {
			frame, members = &big, heavy
		}
		if *frame == nil {
			*frame = sseFrame(kind, object(members()))
		}
		b.push(s, *frame)
	}
}

func (b *bus) push(s *subscriber, frame []byte) {
	if time.Now().Before(b.mute) {
		return
	}
	select {
	case s.frames <- frame:
	default:
		b.count.slow()
		delete(b.subs, s)
		s.close()
	}
}

func (b *bus) add(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[s] = true
}

func (b *bus) remove(s *subscriber) {
	b.mu.Lock()
	delete(b.subs, s)
	b.mu.Unlock()
	s.close()
}

func (b *bus) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		delete(b.subs, s)
		s.close()
	}
}

// silence lets streams stay open and say nothing, not even a heartbeat, until a moment.
func (b *bus) silence(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute = until
}

func (b *bus) muted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.mute)
}

func sseFrame(kind string, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\r\ndata: %s\r\n\r\n", kind, data)
}

// field is one member of a JSON object whose members have an order.
type field struct {
	name  string
	value any
}

// object encodes fields in their order. Strings are not escaped for HTML.
func object(fields []field) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for n, f := range fields {
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + f.name + `":`)
		b.Write(encode(f.value))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// encode is JSON without the escapes for HTML; what tasks are made of, a large cluster has much of, goes the short way.
func encode(v any) []byte {
	switch v := v.(type) {
	case json.RawMessage:
		return v
	case string:
		if plain(v) {
			return append(append(append(make([]byte, 0, len(v)+2), '"'), v...), '"')
		}
	case stamp:
		if !v.IsZero() {
			return append(v.UTC().AppendFormat([]byte{'"'}, stampLayout), '"')
		}
	case []int:
		b := []byte{'['}
		for n, i := range v {
			if n > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(i), 10)
		}
		return append(b, ']')
	case int:
		return strconv.AppendInt(nil, int64(v), 10)
	case []ipAddress:
		if len(v) == 1 {
			return []byte(`[{"ipAddress":"` + v[0].IPAddress + `","protocol":"` + v[0].Protocol + `"}]`)
		}
	case []json.RawMessage:
		return append(append([]byte{'['}, bytes.Join(rawBytes(v), []byte{','})...), ']')
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // our own values only: always encodable
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func rawBytes(v []json.RawMessage) [][]byte {
	out := make([][]byte, len(v))
	for n := range v {
		out[n] = v[n]
	}
	return out
}

func plain(s string) bool {
	for n := range len(s) {
		if s[n] < ' ' || s[n] > '~' || s[n] == '"' || s[n] == '\\' {
			return false
		}
	}
	return true
}

// emit publishes an event with eventType and timestamp at its end.
func (c *cluster) emit(kind string, fields func() []field) {
	at := stamp{time.Now().UTC()}
	c.bus.publish(kind, func() []field { return append(fields(), field{"eventType", kind}, field{"timestamp", at}) }, nil)
}

func (c *cluster) publishStatus(p *part, message string) {
	i := p.inst
	c.emit("status_update_event", func() []field {
		return []field{
			{"slaveId", i.slave.id},
			{"taskId", p.task},
			{"taskStatus", p.state},
			{"message", message},
			{"appId", i.spec.ID},
			{"host", i.host},
			{"ipAddresses", i.addresses()},
			{"ports", nonNil(p.ports)},
			{"version", i.version},
		}
	})
}

func (c *cluster) publishInstance(i *instance, scheduled bool) {
	if c.cfg.Emulate == "1.4" && (i.condition == "Scheduled" || i.condition == "Provisioned") {
		return
	}
	c.emit("instance_changed_event", func() []field {
		var agentID, host any = i.slave.id, i.host
		if scheduled {
			agentID, host = nil, nil
		}
		return []field{
			{"instanceId", i.id},
			{"condition", i.condition},
			{"runSpecId", i.spec.ID},
			{"agentId", agentID},
			{"host", host},
			{"runSpecVersion", i.version},
		}
	})
}

func (c *cluster) publishHealth(i *instance, alive bool) {
	c.emit("health_status_changed_event", func() []field {
		return []field{{"appId", i.spec.ID}, {"instanceId", i.id}, {"version", i.version}, {"alive", alive}}
	})
}

func (c *cluster) publishInstanceHealth(i *instance) {
	c.emit("instance_health_changed_event", func() []field {
		var healthy any
		if v := i.healthy(); v != verdictNone {
			healthy = v == verdictGood
		}
		return []field{{"instanceId", i.id}, {"runSpecId", i.spec.ID}, {"healthy", healthy}, {"runSpecVersion", i.version}}
	})
}

func (c *cluster) publishFailedCheck(i *instance, h healthCheck) {
	c.emit("failed_health_check_event", func() []field {
		return []field{{"appId", i.spec.ID}, {"taskId", i.id}, {"healthCheck", h}}
	})
}

func (c *cluster) publishUnhealthyKill(i *instance, reason string) {
	c.emit("unhealthy_instance_kill_event", func() []field {
		return []field{
			{"appId", i.spec.ID},
			{"taskId", i.parts[0].task},
			{"instanceId", i.id},
			{"version", i.version},
			{"reason", reason},
			{"host", i.host},
			{"slaveId", i.slave.id},
		}
	})
}

func (c *cluster) publishChecks(kind string, a *app) {
	for _, h := range a.HealthChecks {
		c.emit(kind, func() []field {
			if kind == "remove_health_check_event" {
				return []field{{"appId", a.ID}}
			}
			return []field{{"appId", a.ID}, {"healthCheck", h}, {"version", a.Version}}
		})
	}
}

func (c *cluster) publishTerminated(a *app) {
	c.emit("app_terminated_event", func() []field { return []field{{"appId", a.ID}} })
}

func (c *cluster) publishGroup(id string, version stamp) {
	c.emit("group_change_success", func() []field { return []field{{"groupId", id}, {"version", version}} })
}

func (c *cluster) publishPost(client, uri string, a *app) {
	c.emit("api_post_event", func() []field {
		return []field{{"clientIp", client}, {"uri", uri}, {"appDefinition", json.RawMessage(c.definition(a))}}
	})
}

func (c *cluster) publishPod(kind, client, uri string) {
	c.emit(kind, func() []field { return []field{{"clientIp", client}, {"uri", uri}} })
}

func (d *deployment) planFields(c *cluster, heavy bool) json.RawMessage {
	fields := []field{{"id", d.id}}
	if heavy {
		fields = append(fields, field{"original", c.groupJSON("/", d.before, nil, nil)},
			field{"target", c.groupJSON("/", d.after, nil, nil)})
	}
	return object(append(fields, field{"steps", d.stepsJSON()}, field{"version", d.version}))
}

func (d *deployment) stepsJSON() []json.RawMessage {
	all := []json.RawMessage{}
	for _, s := range d.steps {
		all = append(all, object([]field{{"actions", s.actions(nil)}}))
	}
	return all
}

// actions is a step's JSON; results, if not nil, adds what readiness checks have said.
func (s step) actions(results func(app string) []json.RawMessage) []json.RawMessage {
	all := []json.RawMessage{}
	for _, p := range s {
		fields := []field{{"action", p.kind}, {"app", p.app}}
		if results != nil {
			fields = append(fields, field{"readinessCheckResults", results(p.app)})
		}
		all = append(all, object(fields))
	}
	return all
}

func (c *cluster) planEvent(kind string, fields func(plan json.RawMessage) []field, d *deployment) {
	at := stamp{time.Now().UTC()}
	tail := func(f []field) []field { return append(f, field{"eventType", kind}, field{"timestamp", at}) }
	light := func() []field { return tail(fields(d.planFields(c, false))) }
	if c.cfg.Emulate != "1.4" {
		c.bus.publish(kind, light, nil)
		return
	}
	c.bus.publish(kind, light, func() []field { return tail(fields(d.planFields(c, true))) })
}

func (c *cluster) publishDeployment(kind string, d *deployment) {
	current := object([]field{{"actions", d.steps[d.current].actions(nil)}})
	c.planEvent(kind, func(p json.RawMessage) []field {
		return []field{{"plan", p}, {"currentStep", json.RawMessage(current)}}
	}, d)
}

func (c *cluster) publishDeploymentEnd(kind string, d *deployment) {
	c.planEvent(kind, func(p json.RawMessage) []field { return []field{{"id", d.id}, {"plan", p}} }, d)
}

// stream answers GET /v2/events: a frame for each event, byte for byte as Marathon's Jetty does, and a heartbeat.
func (c *cluster) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !slices.Contains(r.Header.Values("Accept"), "text/event-stream") {
		jettyError(w, http.StatusMethodNotAllowed, "HTTP method GET is not supported by this URL")
		return
	}
	q := r.URL.Query()
	s := &subscriber{
		remote: clientIP(r), types: q["event_type"], light: q.Get("plan-format") == "light" && c.cfg.Emulate != "1.4",
		frames: make(chan []byte, c.cfg.EventBuffer), gone: make(chan struct{}),
	}
	about := func(kind string) []byte {
		return sseFrame(kind, object([]field{{"remoteAddress", s.remote}, {"eventType", kind}, {"timestamp", stamp{time.Now().UTC()}}}))
	}
	if s.wants("event_stream_attached") {
		s.frames <- about("event_stream_attached")
	}
	c.emit("event_stream_attached", func() []field { return []field{{"remoteAddress", s.remote}} })
	c.bus.add(s)
	defer func() {
		c.bus.remove(s)
		c.emit("event_stream_detached", func() []field { return []field{{"remoteAddress", s.remote}} })
	}()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream;charset=utf-8")
	h.Set("Connection", "close")
	h.Set("Transfer-Encoding", "identity") // not sent: it keeps the answer from being chunked
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	write := func(b []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(30 * time.Second)) // a write that may not be bounded is tried all the same
		_, err := w.Write(b)
		return err == nil && rc.Flush() == nil
	}
	if rc.Flush() != nil {
		return
	}
	beat := time.NewTicker(c.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-s.gone:
			return
		case <-r.Context().Done():
			return
		case <-c.ctx.Done():
			return
		case f := <-s.frames:
			if !c.bus.muted() && !write(f) {
				return
			}
		case <-beat.C:
			if !c.bus.muted() && (!write([]byte("\r")) || !write([]byte("\n"))) {
				return
			}
		}
	}
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
