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

// BadApp is an app that could not be read. The others of the same body are not affected.
type BadApp struct {
	ID  string // "" if even that could not be read
	Err error
}

// DecodeApps reads the body of /v2/apps, of at most limit bytes, without holding it whole. Apps are in the order of the body,
// and each id comes once: of two with one id the later counts. An error means that nothing of the body is to be believed.
func DecodeApps(r io.Reader, limit int64) ([]*App, []BadApp, error) {
	var apps []*App
	var bad []BadApp
	seen := map[string]int{}
	found := false
	err := decodeObject(r, limit, func(dec *json.Decoder, key string) error {
		if key != "apps" {
			return skip(dec)
		}
		isList, err := openList(dec)
		if err != nil || !isList {
			return err
		}
		found = true
		for dec.More() {
			app := &App{}
			err := dec.Decode(app)
			if err != nil && !isLocal(err) {
				return err
			}
			if err == nil {
				err = app.check()
			}
			if err != nil {
				bad = append(bad, BadApp{ID: app.ID, Err: fmt.Errorf("reading app %.200q: %w", app.ID, err)})
				continue
			}
			if at, again := seen[app.ID]; again {
				apps[at] = app
				continue
			}
			seen[app.ID] = len(apps)
			apps = append(apps, app)
		}
		_, err = dec.Token()
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading apps: %w", err)
	}
	if !found {
		return nil, nil, fmt.Errorf("reading apps: %w", ErrNoApps)
	}
	return apps, bad, nil
}

// DecodeApp reads the body of /v2/apps/{id}, of at most limit bytes.
func DecodeApp(r io.Reader, limit int64) (*App, error) {
	var app *App
	err := decodeObject(r, limit, func(dec *json.Decoder, key string) error {
		if key != "app" {
			return skip(dec)
		}
		return dec.Decode(&app)
	})
	if err == nil && app == nil {
		err = ErrNoApps
	}
	if err == nil {
		err = app.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading an app: %w", err)
	}
	return app, nil
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
	if len(id) < 2 || len(id) > 1024 || id[0] != '/' {
		return fmt.Errorf("%.200q is no id", id)
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '-' || c == '.' || c == '_') {
			return fmt.Errorf("%.200q is no id", id)
		}
	}
	return nil
}

// decodeObject walks the members of the one JSON object that r holds. member reads exactly one value.
func decodeObject(r io.Reader, limit int64, member func(dec *json.Decoder, key string) error) error {
	dec := json.NewDecoder(&cappedReader{r: r, left: limit})
	first, err := dec.Token()
	switch {
	case errors.Is(err, io.EOF): // nothing, or white space only
		return ErrEmpty
	case err != nil:
		return bodyError(err)
	case first != json.Delim('{'):
		return ErrNotObject
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return bodyError(err)
		}
		name, ok := key.(string)
		if !ok {
			return ErrSyntax
		}
		if err := member(dec, name); err != nil {
			return bodyError(err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return bodyError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			return fmt.Errorf("%w: something follows the object", ErrSyntax)
		}
		return bodyError(err)
	}
	return nil
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

func skip(dec *json.Decoder) error {
	var raw json.RawMessage
	return dec.Decode(&raw)
}

// openList consumes the opening bracket of a list, or null.
func openList(dec *json.Decoder) (bool, error) {
	t, err := dec.Token()
	switch {
	case err != nil:
		return false, err
	case t == nil:
		return false, nil
	case t != json.Delim('['):
		return false, ErrNoApps
	}
	return true, nil
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
