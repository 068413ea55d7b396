package control

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signalbox/haproxy"
)

const (
	sampleInfo = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 15015\nUptime_sec: 2\nMaxconn: 200\nCurrConns: 1\nCumReq: 2\n" +
		"DroppedLogs: 3\nStopping: 0\nStart_time_sec: 1795230536\nnode: vm\n"
	sampleServers = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight " +
		"srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id " +
		"srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n" +
		"3 b1 1 s1 127.0.0.1 2 4 5 1 3 1 0 2 6 0 0 0 - 9000 - 0 77 - - 0\n3 b1 2 s2 ::1 0 5 1 1 4 1 0 0 8 0 0 0 - 1 - 0 0 - - 0\n" +
		"3 b1 3 s3 127.0.0.1 2 8 1 1 4 1 0 0 8 0 0 0 - 1 - 0 0 - - 0\n"
	sampleMap  = "0x55c2c834f1a0 a.local b1\n0x55c2c834f1b0 b.local/ b2 "
	sampleProc = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n" +
		"18057           master          2 [failed: 1]   0d00h00m05s     2.6.12-1+deb12u4\n# workers\n" +
		"18193           worker          1               0d00h00m04s     2.6.12-1+deb12u4\n# old workers\n" +
		"18060           worker          2               0d00h00m05s     2.6.12-1+deb12u4\n# programs\n"
	sampleStat = "# pxname,svname,stot,status,req_tot,hrsp_2xx,conn_tot,\nhttp,FRONTEND,7,OPEN,5,4,6,\nb1,\"s,1\",,UP,,1,,\n"
)

func TestParseWhatHAProxySays(t *testing.T) {
	info, err := ParseInfo(sampleInfo)
	if d := cmp.Diff(Info{
		Version: "2.6.12-1+deb12u4", PID: 15015, UptimeSec: 2, StartTimeSec: 1795230536, Maxconn: 200, CurrConns: 1, CumReq: 2, DroppedLogs: 3,
	}, info); err != nil || d != "" {
		t.Errorf("info: %v (-want +got):\n%s", err, d)
	}
	servers, err := ParseServersState(sampleServers)
	if err != nil || len(servers) != 3 {
		t.Fatalf("servers: %+v, %v", servers, err)
	}
	// "disabled" in the file leaves a bit behind that is no maintenance.
	for i, want := range []haproxy.AdminState{haproxy.Ready, haproxy.Maint, haproxy.Drain} {
		if servers[i].Admin != want {
			t.Errorf("server %d is %s, want %s", i, servers[i].Admin, want)
		}
	}
	if s := servers[0]; s.Addr.String() != "127.0.0.1:9000" || s.Weight != 5 || s.CheckPort != 77 || !s.Up {
		t.Errorf("server %+v", s)
	}
	lines, err := ParseMap(sampleMap)
	if d := cmp.Diff([]MapLine{{"a.local", "b1"}, {"b.local/", "b2 "}}, lines); err != nil || d != "" {
		t.Errorf("map: %v (-want +got):\n%s", err, d)
	}
	proc, err := ParseProc(sampleProc)
	if d := cmp.Diff(Proc{
		Master: 18057, Version: "2.6.12-1+deb12u4", Reloads: 2, Failed: 1, Workers: []ProcWorker{{18193, 1}}, Old: []ProcWorker{{18060, 2}},
	}, proc); err != nil || d != "" {
		t.Errorf("proc: %v (-want +got):\n%s", err, d)
	}
	stats, err := ParseStat(sampleStat)
	if d := cmp.Diff([]Stat{
		{Proxy: "http", Server: "FRONTEND", Status: "OPEN", Sessions: 7, Requests: 5, Connections: 6, Responses: [6]uint64{1: 4}},
		{Proxy: "b1", Server: "s,1", Status: "UP", Responses: [6]uint64{1: 1}},
	}, stats); err != nil || d != "" {
		t.Errorf("stat: %v (-want +got):\n%s", err, d)
	}
}

func TestParseRefusesWhatIsCut(t *testing.T) {
	for _, s := range []string{"", "1", "2\n# x\n", sampleServers[:len(sampleServers)-20], "Unknown command"} {
		if got, err := ParseServersState(s); err == nil {
			t.Errorf("servers from %q: %v", s, got)
		}
	}
	for _, s := range []string{"Unknown map identifier. Please use #<id> or <file>.", "0x1", "0x1 "} {
		if got, err := ParseMap(s); err == nil {
			t.Errorf("map from %q: %v", s, got)
		}
	}
	for _, s := range []string{"", "Permission denied", "Pid: 0\nVersion: 1\n", "Pid: x\n"} {
		if got, err := ParseInfo(s); err == nil {
			t.Errorf("info from %q: %v", s, got)
		}
	}
	for _, s := range []string{"", "# workers\n", "x master 0 [failed: 0] 1 2\n", "7 master 0 [failed: 0 1 2\n"} {
		if got, err := ParseProc(s); err == nil {
			t.Errorf("proc from %q: %v", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{sampleInfo, sampleServers, sampleMap, sampleProc, sampleStat} {
		f.Add(s)
		f.Add(s[:len(s)/2])
	}
	f.Fuzz(func(_ *testing.T, s string) {
		_, _ = ParseInfo(s)
		_, _ = ParseServersState(s)
		_, _ = ParseMap(s)
		_, _ = ParseProc(s)
		_, _ = ParseStat(s)
		_ = parseCheck(s, map[string]string{"/proc/self/fd/3": configName})
		_, _ = decodeState([]byte(s))
	})
}

// A command that is let through is one line with one command on it.
func FuzzCommand(f *testing.F) {
	f.Add("set server a/b state ready")
	f.Add("a;b")
	f.Fuzz(func(t *testing.T, s string) {
		if validCommand(s) == nil && (strings.ContainsAny(s, ";\n\r\x00\\") || strings.Contains(s, "<<") || len(s) > maxCommand) {
			t.Errorf("%q is let through", s)
		}
	})
}

func TestAddressAnswersOfEveryVersion(t *testing.T) {
	for answer, done := range map[string]bool{
		"IP changed from '127.0.0.1' to '127.0.0.2', port changed from '1' to '9' by 'stats socket command'": true,
		"no need to change the addr, port changed from '1' to '9' by 'stats socket command'":                 true, // 2.6
		"no need to change the addr, no need to change the port by 'stats socket command'":                   true, // 2.6
		"IP changed from '127.0.0.1' to '127.0.0.2', no need to change the port by 'stats socket command'":   true, // 2.6
		"IP changed from '127.0.0.1' to '127.0.0.2' by 'stats socket command'":                               true,
		"port changed from '1' to '9' by 'stats socket command'":                                             true, // 3.0
		"nothing changed":                                        true, // 3.0
		"Invalid addr format '127.0.0.1.1'":                      false,
		"port changed from '1' to '9' by 'somebody else'":        false,
		"can't change <port> to port map because it is occupied": false,
		"": false,
	} {
		if expected("set server b/s1 addr 127.0.0.2 port 9", answer) != done {
			t.Errorf("%q counts as done: %v, want %v", answer, !done, done)
		}
	}
}
