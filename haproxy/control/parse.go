package control

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"signalbox/haproxy"
)

// Info is what a worker says about itself ("show info").
type Info struct {
	Version      string
	PID          int
	UptimeSec    int64
	StartTimeSec int64 // seconds since 1970; 0 if this version does not say
	Maxconn      int
	CurrConns    int
	CumReq       uint64
	DroppedLogs  uint64
	Stopping     bool

	At moment // when it said so to a Runtime, else zero
}

// began returns the earliest moment at which the worker can have started: it tells its age in whole seconds. The clock of the machine is
// not asked, which may have been set since.
func (i Info) began() moment { return i.At.minus(time.Duration(i.UptimeSec+1) * time.Second) }

// Worker returns the identity of the worker that answered.
func (i Info) Worker() Worker { return Worker{PID: i.PID, Started: i.StartTimeSec} }

// ParseInfo reads the answer to "show info". Unknown fields are passed over; a missing pid or version is an error.
func ParseInfo(s string) (Info, error) {
	var in Info
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		var err error
		switch key {
		case "Version":
			in.Version = value
		case "Pid":
			in.PID, err = strconv.Atoi(value)
		case "Uptime_sec":
			in.UptimeSec, err = strconv.ParseInt(value, 10, 64)
		case "Start_time_sec":
			in.StartTimeSec, err = strconv.ParseInt(value, 10, 64)
		case "Maxconn":
			in.Maxconn, err = strconv.Atoi(value)
		case "CurrConns":
			in.CurrConns, err = strconv.Atoi(value)
		case "CumReq":
			in.CumReq, err = strconv.ParseUint(value, 10, 64)
		case "DroppedLogs":
			in.DroppedLogs, err = strconv.ParseUint(value, 10, 64)
		case "Stopping":
			in.Stopping = value != "0"
		}
		if err != nil {
			return Info{}, fmt.Errorf("field %s: %w", key, err)
		}
	}
	if in.PID <= 0 || in.Version == "" {
		return Info{}, fmt.Errorf("no pid and version in %q", cut(s, 80))
	}
	return in, nil
}

// ServerState is one line of "show servers state".
type ServerState struct {
	Backend, Name string
	Addr          netip.AddrPort // invalid if the server has no IP address
	Admin         haproxy.AdminState
	Weight        int
	CheckPort     uint16        // 0: that of Addr
	Up            bool          // HAProxy's checks say that it works, or it has none
	Since         time.Duration // since its state last changed, in whole seconds
}

// The bits of srv_admin_state that decide the administrative state. CMAINT (0x04) only remembers that the file said "disabled".
const (
	admMaint = 0x01 | 0x02 | 0x20 | 0x40 // forced, inherited, by resolution, by host name
	admDrain = 0x08 | 0x10
)

// ParseServersState reads the answer to "show servers state", format 1.
func ParseServersState(s string) ([]ServerState, error) {
	head, rest, ok := strings.Cut(s, "\n")
	if strings.TrimSpace(head) != "1" {
		return nil, fmt.Errorf("format %q instead of 1", cut(head, 80))
	}
	names, rest, found := strings.Cut(rest, "\n")
	if !ok || !strings.HasPrefix(names, "# ") {
		return nil, fmt.Errorf("no line of field names")
	}
	_ = found // without servers the names are the last line
	col := map[string]int{}
	for i, n := range strings.Fields(names[2:]) {
		col[n] = i
	}
	index := make([]int, 0, 9)
	for _, n := range []string{"be_name", "srv_name", "srv_addr", "srv_port", "srv_admin_state", "srv_uweight", "srv_op_state", "srv_check_port", "srv_time_since_last_change"} {
		i, ok := col[n]
		if !ok {
			return nil, fmt.Errorf("no field %s", n)
		}
		index = append(index, i)
	}
	out := make([]ServerState, 0, strings.Count(rest, "\n")+1)
	fields := make([]string, 0, len(col))
	for line := range strings.SplitSeq(rest, "\n") {
		if line == "" {
			continue
		}
		fields = fields[:0]
		for f := range strings.FieldsSeq(line) {
			fields = append(fields, f)
		}
		if len(fields) != len(col) {
			return nil, fmt.Errorf("%d fields instead of %d in %q", len(fields), len(col), cut(line, 200))
		}
		st := ServerState{Backend: fields[index[0]], Name: fields[index[1]]}
		if a, err := netip.ParseAddr(fields[index[2]]); err == nil {
			port, err := strconv.ParseUint(fields[index[3]], 10, 16)
			if err != nil {
				return nil, fmt.Errorf("port in %q: %w", cut(line, 200), err)
			}
			st.Addr = netip.AddrPortFrom(a, uint16(port))
		}
		adm, err := strconv.Atoi(fields[index[4]])
		if err != nil {
			return nil, fmt.Errorf("administrative state in %q: %w", cut(line, 200), err)
		}
		switch {
		case adm&admMaint != 0:
			st.Admin = haproxy.Maint
		case adm&admDrain != 0:
			st.Admin = haproxy.Drain
		default:
			st.Admin = haproxy.Ready
		}
		port, err := strconv.ParseUint(fields[index[7]], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port of the check in %q: %w", cut(line, 200), err)
		}
		st.CheckPort = uint16(port)
		if st.Weight, err = strconv.Atoi(fields[index[5]]); err != nil {
			return nil, fmt.Errorf("weight in %q: %w", cut(line, 200), err)
		}
		st.Up = fields[index[6]] == "2"
		seconds, err := strconv.ParseInt(fields[index[8]], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("time of the last change in %q: %w", cut(line, 200), err)
		}
		st.Since = time.Duration(seconds) * time.Second
		out = append(out, st)
	}
	return out, nil
}

// MapLine is one entry that HAProxy holds in a map.
type MapLine struct{ Key, Value string }

// ParseMap reads the answer to "show map <file>": an address, the key and the value in each line.
func ParseMap(s string) ([]MapLine, error) {
	if s == "" {
		return nil, nil
	}
	out := make([]MapLine, 0, strings.Count(s, "\n")+1)
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" {
			continue
		}
		ref, rest, _ := strings.Cut(line, " ")
		key, value, ok := strings.Cut(rest, " ")
		if !strings.HasPrefix(ref, "0x") || key == "" || !ok {
			return nil, fmt.Errorf("%q is not a map entry", cut(line, 200))
		}
		out = append(out, MapLine{Key: key, Value: value})
	}
	return out, nil
}

// CertificateEntry is one line of a list of certificates that HAProxy holds.
type CertificateEntry struct {
	Text   string // as the list's file would say it, "/d/x.pem x.local !y.x.local"
	File   string
	Number int // by which HAProxy tells it from others with the same file
}

// ParseCertificateList reads the answer to "show ssl crt-list -n <list>".
func ParseCertificateList(s string) ([]CertificateEntry, error) {
	head, rest, _ := strings.Cut(s, "\n")
	if !strings.HasPrefix(head, "# ") {
		return nil, fmt.Errorf("no list of certificates in %q", cut(s, 80))
	}
	var out []CertificateEntry
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		where, filters, _ := strings.Cut(line, " ")
		i := strings.LastIndexByte(where, ':')
		n, err := strconv.Atoi(where[i+1:])
		if i <= 0 || err != nil {
			return nil, fmt.Errorf("no number in %q", cut(line, 200))
		}
		out = append(out, CertificateEntry{Text: where[:i] + " " + filters, File: where[:i], Number: n})
	}
	return out, nil
}

// ParseCertificateFiles reads the answer to "show ssl cert": the files of the certificates that HAProxy holds, and those of which a
// change was begun and not ended.
func ParseCertificateFiles(s string) (held, begun []string, err error) {
	section := ""
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "# "):
			section = line[2:]
		case section == "filename":
			held = append(held, line)
		case section == "transaction":
			begun = append(begun, strings.TrimPrefix(line, "*"))
		default:
			return nil, nil, fmt.Errorf("%q among the files of certificates", cut(line, 200))
		}
	}
	return held, begun, nil
}

// Stat is one line of "show stat". A counter that does not apply is 0.
type Stat struct {
	Proxy, Server string // Server is FRONTEND, BACKEND or a server's name
	Status        string
	Sessions      uint64 // stot
	Current       uint64 // scur
	Requests      uint64 // req_tot
	Connections   uint64 // conn_tot
	Denied        uint64 // dreq
	Errors        uint64 // ereq
	// Responses are hrsp_1xx to hrsp_5xx and hrsp_other.
	Responses [6]uint64
}

// ParseStat reads the CSV answer to "show stat".
func ParseStat(s string) ([]Stat, error) {
	s, ok := strings.CutPrefix(s, "# ")
	if !ok {
		return nil, fmt.Errorf("no line of field names in %q", cut(s, 80))
	}
	r := csv.NewReader(strings.NewReader(s))
	r.ReuseRecord = true
	r.FieldsPerRecord = -1
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("field names: %w", err)
	}
	col := map[string]int{}
	for i, n := range head {
		col[n] = i
	}
	for _, n := range []string{"pxname", "svname", "status", "stot"} {
		if _, ok := col[n]; !ok {
			return nil, fmt.Errorf("no field %s", n)
		}
	}
	var out []Stat
	for {
		rec, err := r.Read()
		if rec == nil && err != nil {
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		text := func(name string) string {
			if i, ok := col[name]; ok && i < len(rec) {
				return rec[i]
			}
			return ""
		}
		var bad error
		number := func(name string) uint64 {
			t := text(name)
			if t == "" {
				return 0
			}
			n, err := strconv.ParseUint(t, 10, 64)
			if err != nil && bad == nil {
				bad = fmt.Errorf("field %s: %w", name, err)
			}
			return n
		}
		st := Stat{
			Proxy: strings.Clone(text("pxname")), Server: strings.Clone(text("svname")), Status: strings.Clone(text("status")),
			Sessions: number("stot"), Current: number("scur"), Requests: number("req_tot"), Connections: number("conn_tot"),
			Denied: number("dreq"), Errors: number("ereq"),
		}
		for i, n := range []string{"hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"} {
			st.Responses[i] = number(n)
		}
		if st.Proxy == "" || st.Server == "" {
			bad = fmt.Errorf("a line without names")
		}
		if bad != nil {
			return nil, bad
		}
		out = append(out, st)
	}
}

// Proc is what the master says about its processes ("show proc").
type Proc struct {
	Master  int // pid
	Version string
	Reloads int
	Failed  int // reloads that failed since the last that succeeded
	Workers []ProcWorker
	Old     []ProcWorker // of earlier configurations, still serving connections
}

// ProcWorker is one worker as the master sees it.
type ProcWorker struct {
	PID     int
	Reloads int // how many reloads it has lived through
}

// ParseProc reads the answer to "show proc".
func ParseProc(s string) (Proc, error) {
	var p Proc
	section := "master"
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "#<PID>"):
			continue
		case strings.HasPrefix(line, "# "):
			section = line[2:]
			continue
		}
		f := strings.Fields(line)
		if len(f) < 3 {
			return Proc{}, fmt.Errorf("%q is not a process", cut(line, 200))
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil || pid <= 0 {
			return Proc{}, fmt.Errorf("no pid in %q", cut(line, 200))
		}
		reloads, err := strconv.Atoi(f[2])
		if err != nil {
			return Proc{}, fmt.Errorf("reloads in %q: %w", cut(line, 200), err)
		}
		switch {
		case f[1] == "master":
			p.Master, p.Reloads, p.Version = pid, reloads, f[len(f)-1]
			if _, after, ok := strings.Cut(line, "[failed:"); ok {
				n, _, ok := strings.Cut(after, "]")
				if p.Failed, err = strconv.Atoi(strings.TrimSpace(n)); !ok || err != nil {
					return Proc{}, fmt.Errorf("failed reloads in %q", cut(line, 200))
				}
			}
		case f[1] == "worker" && section == "workers":
			p.Workers = append(p.Workers, ProcWorker{pid, reloads})
		case f[1] == "worker" && section == "old workers":
			p.Old = append(p.Old, ProcWorker{pid, reloads})
		}
	}
	if p.Master == 0 {
		return Proc{}, fmt.Errorf("no master in %q", cut(s, 80))
	}
	return p, nil
}
