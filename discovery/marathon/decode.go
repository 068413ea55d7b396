package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Why a body is no news. A body that gives one of these says nothing about the apps: the state before it stays.
var (
	ErrEmpty     = errors.New("empty body")
	ErrTruncated = errors.New("body ends too early")
	ErrTooLarge  = errors.New("body is larger than the limit")
	ErrNotObject = errors.New("body is no JSON object")
	ErrNoApps    = errors.New("body has no apps")
	ErrSyntax    = errors.New("body is not well-formed JSON")
)

// BadApp is an app or a pod that could not be read. The others of the same body are not affected.
type BadApp struct {
	ID  string // "" if even that could not be read
	Err error
}

func badApp(id string, err error) BadApp {
	if checkID(id) != nil {
		id = ""
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := wrong.Field
		if field == "" {
			field = "value"
		}
		err = fmt.Errorf("its %s is a %s", field, wrong.Value)
	}
	return BadApp{ID: id, Err: err}
}

// DecodeApps reads the body of /v2/apps, of at most limit bytes, without holding it whole. Apps are in the order of the body,
// and each id comes once: of two with one id the later counts. An error means that nothing of the body is to be believed.
func DecodeApps(r io.Reader, limit int64) ([]*App, []BadApp, error) {
	var apps []*App
	var bad []BadApp
	seen := map[string]int{}
	found := false
	b := newBody(r, limit, 64<<10)
	err := b.members(func(key string) error {
		if key != "apps" {
			return b.skip()
		}
		switch c, err := b.peek(); {
		case err != nil:
			return truncated(err)
		case c == 'n':
			return b.skip()
		case c != '[':
			return ErrNoApps
		}
		found = true
		return b.elements(func() error {
			raw, err := b.value()
			if err != nil {
				return err
			}
			app, err := readApp(raw)
			switch {
			case errors.Is(err, ErrSyntax):
				return err
			case err != nil:
				bad = append(bad, badApp(app.ID, err))
				return nil
			}
			if at, again := seen[app.ID]; again {
				apps[at] = app
				return nil
			}
			seen[app.ID] = len(apps)
			apps = append(apps, app)
			return nil
		})
	})
	if err == nil && !found {
		err = ErrNoApps
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading apps: %w", err)
	}
	return apps, bad, nil
}

// DecodeApp reads the body of /v2/apps/{id}, of at most limit bytes.
func DecodeApp(r io.Reader, limit int64) (*App, error) {
	var app *App
	b := newBody(r, limit, 4<<10)
	var wrong error
	err := b.members(func(key string) error {
		if key != "app" {
			return b.skip()
		}
		raw, err := b.value()
		if err != nil {
			return err
		}
		if string(raw) == "null" {
			return nil
		}
		app, err = readApp(raw)
		if errors.Is(err, ErrSyntax) {
			return err
		}
		wrong = err
		return nil
	})
	switch {
	case err != nil:
	case app == nil:
		err = ErrNoApps
	default:
		err = wrong
	}
	if err != nil {
		return nil, fmt.Errorf("reading an app: %w", err)
	}
	return app, nil
}

// readApp reads one app. With an error other than ErrSyntax it returns what it could read.
func readApp(raw []byte) (*App, error) {
	c := cursor{b: raw}
	a := &App{}
	c.app(a)
	if c.finish(); c.broken {
		return a, ErrSyntax
	}
	if c.wrong != "" {
		return a, errors.New(c.wrong)
	}
	return a, a.check()
}

func (c *cursor) app(a *App) {
	c.fields("value", func(key []byte) {
		switch string(key) {
		case "id":
			c.str("id", &a.ID)
		case "labels":
			c.texts(&a.Labels)
		case "instances":
			c.num(&a.Instances)
		case "version":
			c.str("version", &a.Version)
		case "versionInfo":
			c.other("versionInfo", &a.VersionInfo)
		case "ports":
			a.Ports = c.nums("ports")
		case "portDefinitions":
			c.other("portDefinitions", &a.PortDefinitions)
		case "container":
			c.other("container", &a.Container)
		case "networks":
			c.other("networks", &a.Networks)
		case "ipAddress":
			c.other("ipAddress", &a.IPAddress)
		case "healthChecks":
			c.other("healthChecks", &a.HealthChecks)
		case "readinessChecks":
			c.other("readinessChecks", &a.ReadinessChecks)
		case "readinessCheckResults":
			c.other("readinessCheckResults", &a.ReadinessResults)
		case "deployments":
			c.other("deployments", &a.Deployments)
		case "tasks":
			a.Tasks = nil
			c.list("tasks", func() {
				a.Tasks = append(a.Tasks, Task{})
				c.task(&a.Tasks[len(a.Tasks)-1])
			})
		default:
			c.skip()
		}
	})
}

func (c *cursor) task(t *Task) {
	c.fields("task", func(key []byte) {
		switch string(key) {
		case "id":
			c.str("task's id", &t.ID)
		case "host":
			c.str("task's host", &t.Host)
		case "ports":
			t.Ports = c.nums("task's ports")
		case "state":
			c.str("task's state", &t.State)
		case "startedAt":
			c.str("task's startedAt", &t.StartedAt)
		case "version":
			c.str("task's version", &t.Version)
		case "ipAddresses":
			t.IPAddresses = nil
			c.list("task's ipAddresses", func() {
				var addr taskAddress
				c.fields("task's ipAddresses", func(key []byte) {
					if string(key) == "ipAddress" {
						c.str("task's ipAddress", &addr.IPAddress)
						return
					}
					c.skip()
				})
				t.IPAddresses = append(t.IPAddresses, addr)
			})
		case "healthCheckResults":
			t.HealthResults = nil
			c.list("task's healthCheckResults", func() {
				var r healthResult
				c.fields("task's healthCheckResults", func(key []byte) {
					switch string(key) {
					case "alive":
						c.flag("task's alive", &r.Alive)
					case "consecutiveFailures":
						c.num(&r.ConsecutiveFailures)
					default:
						c.skip()
					}
				})
				t.HealthResults = append(t.HealthResults, r)
			})
		default:
			c.skip()
		}
	})
}

// check refuses an app that nothing can be said about.
func (a *App) check() error {
	if err := checkID(a.ID); err != nil {
		return err
	}
	if a.Labels.broken {
		return errors.New("its labels are no object")
	}
	return nil
}

// checkID refuses what Marathon itself would not take as the id of an app or a pod: ids go into names and logs.
func checkID(id string) error {
	if len(id) < 2 || len(id) > 1024 || id[0] != '/' || !madeOf(id, "/-._") {
		return fmt.Errorf("%.200q is no id", id)
	}
	return nil
}

// atEnd refuses a body in which something follows its one value.
func atEnd(dec *json.Decoder) error {
	switch _, err := dec.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return bodyError(err)
	}
	return fmt.Errorf("%w: something follows its value", ErrSyntax)
}

// bodyError names the kind of failure. Errors of the reader itself pass through.
func bodyError(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return err
}

// isLocal reports whether a failed Decode has still consumed its value whole, so that reading can go on behind it.
func isLocal(err error) bool {
	var wrongType *json.UnmarshalTypeError
	return errors.As(err, &wrongType)
}

// cappedReader fails with ErrTooLarge instead of ending when more than left bytes come.
type cappedReader struct {
	r    io.Reader
	left int64
}

func (c *cappedReader) Read(p []byte) (int, error) {
	if c.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if c.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
