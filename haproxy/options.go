package haproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// The map files, in Options.Dir.
const (
	HostsMap = "hosts.map"
	NamesMap = "names.map"
	PathsMap = "paths.map"
)

// MapPath returns the path of a map file as the configuration and the runtime commands word it.
func (o *Options) MapPath(name string) string { return filepath.Join(o.Dir, name) }

func (o *Options) equal(p *Options) bool {
	return o == p || o != nil && p != nil && reflect.DeepEqual(*o, *p)
}

// Validate reports the first option that HAProxy's configuration can't express.
func (o *Options) Validate() error {
	if !filepath.IsAbs(o.Dir) || !all(o.Dir, "/._-+@=,:~") {
		return fmt.Errorf("the directory %q must be an absolute path of letters, digits and /._-+@=,:~", o.Dir)
	}
	if !filepath.IsAbs(o.StatsSocket) || len(o.StatsSocket) > 100 {
		return fmt.Errorf("the runtime socket %q must be an absolute path of at most 100 bytes", o.StatsSocket)
	}
	if o.LogSocket != "" && (!filepath.IsAbs(o.LogSocket) || len(o.LogSocket) > 100) {
		return fmt.Errorf("the log socket %q must be an absolute path of at most 100 bytes", o.LogSocket)
	}
	if len(o.HTTPBind) == 0 {
		return errors.New("the HTTP entry has no address")
	}
	for _, bind := range o.HTTPBind {
		if err := validBind(bind); err != nil {
			return err
		}
	}
	if _, err := serviceBind(o, 1); err != nil {
		return err
	}
	for name, v := range map[string]string{
		"directory": o.Dir, "runtime socket": o.StatsSocket, "log socket": o.LogSocket, "log format": o.LogFormat,
		"log format for TCP": o.LogFormatTCP, "user": o.User, "group": o.Group,
	} {
		if strings.ContainsAny(v, "'\n\r\x00") {
			return fmt.Errorf("the %s %q has a quote or a line break", name, v)
		}
	}
	if o.RingFormat != "" && !all(o.RingFormat, "") {
		return fmt.Errorf("the ring's format %q is not a word", o.RingFormat)
	}
	if o.MaxConn < 0 || o.Threads < 0 || o.MaxReloads < 0 || o.MinSlots < 0 || o.MinSlots > 1024 {
		return errors.New("a number among HAProxy's options is out of its range")
	}
	return nil
}

func validBind(bind string) error {
	i := strings.LastIndexByte(bind, ':')
	if i < 0 {
		return fmt.Errorf("the address %q of the HTTP entry has no port", bind)
	}
	if port, err := strconv.ParseUint(bind[i+1:], 10, 16); err != nil || port == 0 {
		return fmt.Errorf("the address %q of the HTTP entry needs a port of 1 to 65535", bind)
	}
	if host := bind[:i]; host != "" && host != "*" {
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
			return fmt.Errorf("reading the address %q of the HTTP entry: %w", bind, err)
		}
	}
	return nil
}

// head returns what the template's own text is filled with.
func (o *Options) head() *head {
	h := &head{
		StatsSocket: Word(o.StatsSocket), MaxConn: cmp.Or(o.MaxConn, 2000), NoStrictLimits: true, Threads: o.Threads,
		User: Word(o.User), Group: Word(o.Group), HardStopAfter: millis(cmp.Or(o.HardStopAfter, 10*time.Minute)),
		MaxReloads: cmp.Or(o.MaxReloads, 20),
		RingFormat: Word(cmp.Or(o.RingFormat, "short")), LogLine: cmp.Or(o.LogLine, 8192), RingBytes: cmp.Or(o.RingBytes, 4<<20),
		LogFormat: Word(o.LogFormat), LogFormatTCP: Word(o.LogFormatTCP),
		HostsMap: Word(o.MapPath(HostsMap)), NamesMap: Word(o.MapPath(NamesMap)), PathsMap: Word(o.MapPath(PathsMap)),
	}
	if o.LogSocket != "" {
		h.LogServer = Word("unix@" + o.LogSocket)
	}
	for _, bind := range o.HTTPBind {
		h.HTTPBind = append(h.HTTPBind, Word(bind))
	}
	return h
}
