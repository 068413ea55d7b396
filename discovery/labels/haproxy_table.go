package labels

import (
	"slices"
	"strings"

	"signalbox"
)

// marathonLBLabel is one of marathon-lb's labels.
type marathonLBLabel struct {
	Name      string   // X of HAPROXY_N_X, or of HAPROXY_X
	App       bool     // HAPROXY_X, of a whole app
	Meaning   string   // here
	Native    []string // keys of the native labels that it comes to
	Deviation string   // how it differs from marathon-lb on purpose, or ""

	// read asks for what the label says; nil where that is done elsewhere. Labels are read in the order of the table, and a later
	// one outweighs an earlier one.
	read func(t *translation, c claim)
}

// ofKey asks for a native label with the same value.
func ofKey(key string) func(*translation, claim) {
	return func(t *translation, c claim) { t.ask(c, key, c.value) }
}

// inHTTP reads a label that marathon-lb looks at in mode http only.
func inHTTP(read func(*translation, claim)) func(*translation, claim) {
	return func(t *translation, c claim) {
		if t.mode() != signalbox.HTTP {
			t.idle(c, "means nothing to a service of mode "+printable(cut(string(t.mode()), 20)))
			return
		}
		read(t, c)
	}
}

// beside reads a template that marathon-lb uses only where another label is set.
func beside(name string, isSet func(*translation) bool, read func(*translation, claim)) func(*translation, claim) {
	return func(t *translation, c claim) {
		if !isSet(t) {
			t.idle(c, "means nothing without HAPROXY_N_"+name)
			return
		}
		read(t, c)
	}
}

func isOn(name string) func(*translation) bool {
	return func(t *translation) bool { return t.on(name) }
}

func isThere(name string) func(*translation) bool {
	return func(t *translation) bool { _, ok := t.labels[name]; return ok }
}

// backend reads a template of a backend's section.
func backend(known []string, heads ...string) func(*translation, claim) {
	return func(t *translation, c claim) { t.template(c, known, t.backendLine, heads...) }
}

// parameters reads a template that is part of each server line.
func parameters(known []string) func(*translation, claim) {
	return func(t *translation, c claim) {
		t.template(c, known, func(c claim, l line) (outcome, string) { return t.serverWords(c, l.words) })
	}
}

// frame reads a template whose lines may stand in a frame only, or be what marathon-lb has there anyway.
func frame(known []string, same ...string) func(*translation, claim) {
	return func(t *translation, c claim) {
		t.template(c, known, func(_ claim, l line) (outcome, string) {
			if slices.Contains(same, strings.Join(l.words, " ")) {
				return understood, ""
			}
			return unsaid, "changes what is shared with other services, or is the load balancer's own"
		})
	}
}

const ownWay = "Lines that no native label can say are left out, and told of one by one."

var marathonLBLabels = []marathonLBLabel{
	{Name: "GROUP", App: true, Meaning: "The groups of load balancers that the app is for.", Native: keys("group"), Deviation: "Spaces around the names count for nothing. With no --group every app is served."},
	{Name: "APP_ID", App: true, Meaning: "Nothing: the tools for blue and green write it for themselves."},
	{Name: "DEPLOYMENT_GROUP", App: true, Meaning: "The app is one of several that make up the app of this id: they are merged into one service."},
	{Name: "DEPLOYMENT_ALT_PORT", App: true, Meaning: "Nothing: the tools for blue and green read it."},
	{Name: "DEPLOYMENT_COLOUR", App: true, Meaning: "What the app is called within its group; shown."},
	{Name: "DEPLOYMENT_STARTED_AT", App: true, Meaning: "When the deployment began: the oldest app of a group defines the service."},
	{Name: "DEPLOYMENT_TARGET_INSTANCES", App: true, Meaning: "How many instances the group shall have in the end; so many never drain.", Deviation: "Where it is missing the instances of the older app count."},
	{Name: "DEPLOYMENT_NEW_INSTANCES", App: true, Meaning: "How many instances the new app has in a deployment that keeps both."},

	{Name: "ENABLED", Meaning: "Whether the port is a service.", Native: keys("enable"), Deviation: "1 and on are true as well; what is neither true nor false is told of.", read: ofKey("enable")},
	{Name: "GROUP", Meaning: "The groups of load balancers that the port is for, instead of the app's.", Native: keys("group"), Deviation: "Spaces around the names count for nothing.", read: ofKey("group")},
	{Name: "VHOST", Meaning: "The names under which the service answers, on every entry.", Native: keys("host"), Deviation: "Spaces count for nothing; a name holds whatever the port in the request; https requests are told apart by Host; `*.x` and `*` are wildcards; two ports with one first name do not share their names."},
	{Name: "PATH", Meaning: "The paths under which the service answers, beside VHOST; after -i in either case.", Native: keys("path"), Deviation: "A path ends on segment boundaries: /api does not hold for /apis. The longest path wins. It holds on every entry alike. On a host with paths, what can be read as two of them, such as //, is answered 400."},
	{Name: "MODE", Meaning: "http or tcp.", Native: keys("mode"), read: ofKey("mode")},
	{Name: "BACKEND_HEALTHCHECK_PORT_INDEX", Meaning: "The port of the app that is probed in the place of this one.", Native: keys("health-port"), Deviation: "The index counts ports as they are declared, and may be a name; one out of range is told of.", read: (*translation).checkPort},
	{Name: "PORT", Meaning: "The port on which every slave answers, instead of Marathon's service port.", Native: keys("port"), Deviation: "Two services on one port are told of; the oldest keeps it.", read: ofKey("port")},
	{Name: "BIND_ADDR", Meaning: "The address on which the service port listens.", Native: keys("bind-address"), read: ofKey("bind-address")},
	{Name: "SSL_CERT", Meaning: "The service port speaks TLS, with the certificate of this name.", Native: keys("tls", "port-tls"), Deviation: "The certificate is looked for by the name of its file, in the operator's directory, and serves the names of the service as well.", read: func(t *translation, c claim) { t.certificate(c, c.value) }},
	{
		Name: "BIND_OPTIONS", Meaning: "accept-proxy, ssl and crt are carried out.", Native: keys("accept-proxy", "tls", "port-tls"),
		Deviation: "Suites and versions of TLS are the operator's; what asks clients for certificates closes the service; others are told of.",
		read: func(t *translation, c claim) {
			t.template(c, nil, func(c claim, l line) (outcome, string) { return t.bind(c, l.words) })
		},
	},
	{Name: "BALANCE", Meaning: "How a task is chosen.", Native: keys("balance"), Deviation: "What takes arguments, such as hdr and url_param, is told of.", read: ofKey("balance")},
	{Name: "STICKY", Meaning: "A cookie, " + stickyName + ", keeps a client at its task.", Native: keys("sticky"), read: (*translation).sticky},
	{Name: "BACKEND_WEIGHT", Meaning: "The order of services that claim one name and path: the highest keeps it.", Native: keys("priority"), Deviation: "It orders nothing else: exact names go before wildcards, and long paths before short ones.", read: (*translation).priority},
	{Name: "REDIRECT_TO_HTTPS", Meaning: "Plain requests by name are sent to https, with 301.", Native: keys("https-redirect"), Deviation: "On every plain entry alike, and for the app's own requests alone: marathon-lb redirects the whole host, or what is below the path, whichever app answers.", read: ofKey("https-redirect")},
	{Name: "USE_HSTS", Meaning: "Answers over TLS carry Strict-Transport-Security.", Native: keys("hsts"), Deviation: "On none without TLS, which browsers would not heed.", read: inHTTP(ofKey("hsts"))},
	{Name: "AUTH", Meaning: "realm:user:hash: clients must give the name and the password.", Native: keys("auth"), Deviation: "It holds on every way in, the service port too, and for the app's own requests alone: marathon-lb asks on the whole host, or below the path, whichever app answers. Who is open here, and would not be there, is told. What cannot be read closes the service.", read: ofKey("auth")},
	{Name: "BACKEND_NETWORK_ALLOWED_ACL", Meaning: "The addresses and networks that may enter.", Native: keys("allow"), Deviation: "It comes before AUTH and redirects. What cannot be read, or is empty, closes the service.", read: ofKey("allow")},
	{Name: "HTTP_BACKEND_PROXYPASS_PATH", Meaning: "The path is taken off requests that have it, and tasks see the first name of the service.", Native: keys("strip-prefix", "rewrite-host"), Deviation: "It ends on segment boundaries, and is compared in the case that it has.", read: inHTTP((*translation).proxyPass)},
	{Name: "HTTP_BACKEND_REVPROXY_PATH", Meaning: "Put before the path of redirects that tasks answer with.", Native: keys("rewrite-location"), Deviation: "The path of the redirect stays behind it; marathon-lb drops that.", read: inHTTP((*translation).revProxy)},
	{Name: "HTTP_BACKEND_REDIR", Meaning: "Where requests for / are sent.", Native: keys("redirect-root"), Deviation: "On every way in, whatever the Host; what the client asks for counts, not what PROXYPASS_PATH makes of it.", read: inHTTP(ofKey("redirect-root"))},

	{Name: "FRONTEND_HEAD", Meaning: "The frontend of the service port: its address, options of bind, times.", Native: keys("port", "bind-address", "accept-proxy", "tls", "timeout"), Deviation: ownWay, read: func(t *translation, c claim) { t.template(c, bindPlaceholders, t.frontendLine, "frontend") }},
	{Name: "BACKEND_HEAD", Meaning: "The head of the backend: any line that a native label can say.", Native: keys("balance", "mode", "timeout", "connect-timeout", "retries", "error-page", "health", "request-header", "response-header", "sticky"), Deviation: ownWay, read: backend(headPlaceholders, "backend")},
	{Name: "BACKEND_HSTS_OPTIONS", Meaning: "As BACKEND_HEAD, beside USE_HSTS.", Native: keys("hsts"), Deviation: ownWay, read: inHTTP(beside("USE_HSTS", isOn("USE_HSTS"), backend(nil)))},
	{Name: "BACKEND_HTTP_OPTIONS", Meaning: "As BACKEND_HEAD, in mode http.", Native: keys("request-header", "response-header", "strip-prefix", "rewrite-path", "timeout"), Deviation: ownWay, read: inHTTP(backend(nil))},
	{Name: "BACKEND_STICKY_OPTIONS", Meaning: "The cookie, beside STICKY.", Native: keys("sticky"), Deviation: ownWay, read: beside("STICKY", isOn("STICKY"), backend(nil))},
	{Name: "BACKEND_HTTP_HEALTHCHECK_OPTIONS", Meaning: "How tasks are probed, in mode http.", Native: keys("health"), Deviation: ownWay, read: inHTTP(backend(checkPlaceholders))},
	{Name: "BACKEND_TCP_HEALTHCHECK_OPTIONS", Meaning: "How tasks are probed, in mode tcp.", Native: keys("health"), Deviation: ownWay, read: backend(checkPlaceholders)},
	{Name: "BACKEND_SERVER_OPTIONS", Meaning: "The line of each server: TLS, checks, connections, a port by its number.", Native: keys("backend-tls", "http2", "send-proxy", "task-port", "maxconn", "slow-start", "health-interval"), Deviation: ownWay + " A port by its number holds for tasks with an address of their own.", read: func(t *translation, c claim) { t.template(c, serverPlaceholders, t.serverLine) }},
	{Name: "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS", Meaning: "The parameters of the checks, in mode http.", Native: keys("health-interval"), Deviation: ownWay, read: inHTTP(parameters(checkPlaceholders))},
	{Name: "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS", Meaning: "The parameters of the checks, in mode tcp.", Native: keys("health-interval"), Deviation: ownWay, read: parameters(checkPlaceholders)},
	{Name: "HTTP_BACKEND_PROXYPASS_GLUE", Meaning: "As BACKEND_HEAD, beside HTTP_BACKEND_PROXYPASS_PATH.", Native: keys("strip-prefix", "rewrite-path", "rewrite-host"), Deviation: ownWay, read: beside("HTTP_BACKEND_PROXYPASS_PATH", isThere("HTTP_BACKEND_PROXYPASS_PATH"), func(*translation, claim) {})},
	{Name: "HTTP_BACKEND_REVPROXY_GLUE", Meaning: "As BACKEND_HEAD, beside HTTP_BACKEND_REVPROXY_PATH.", Native: keys("rewrite-location"), Deviation: ownWay, read: beside("HTTP_BACKEND_REVPROXY_PATH", isThere("HTTP_BACKEND_REVPROXY_PATH"), func(*translation, claim) {})},
	{Name: "HTTP_BACKEND_NETWORK_ALLOWED_ACL", Meaning: "How the addresses that may enter are compared, in mode http.", Native: keys("allow"), Deviation: "Another comparison than that of the client's address closes the service.", read: (*translation).allowedACL},
	{Name: "TCP_BACKEND_NETWORK_ALLOWED_ACL", Meaning: "How the addresses that may enter are compared, in mode tcp.", Native: keys("allow"), Deviation: "Another comparison than that of the client's address closes the service.", read: (*translation).allowedACL},
	{Name: "USERLIST_HEAD", Meaning: "The list of users, beside AUTH.", Native: keys("auth"), Deviation: "Another list than marathon-lb's own closes the service.", read: beside("AUTH", isThere("AUTH"), (*translation).userList)},
	{Name: "BACKEND_REDIRECT_HTTP_TO_HTTPS", Meaning: "The redirect, beside REDIRECT_TO_HTTPS.", Native: keys("https-redirect"), Deviation: "The redirect is the load balancer's.", read: frame(frontendPlaceholders, "redirect scheme https code 301 if !{ ssl_fc } host_{cleanedUpHostname}")},
	{Name: "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH", Meaning: "The redirect, beside REDIRECT_TO_HTTPS and PATH.", Native: keys("https-redirect"), Deviation: "The redirect is the load balancer's.", read: frame(frontendPlaceholders, "redirect scheme https code 301 if !{ ssl_fc } host_{cleanedUpHostname} path_{backend}")},
	{Name: "FRONTEND_BACKEND_GLUE", Meaning: "Which backend the service port leads to.", Deviation: "Always the service's own.", read: frame([]string{"backend"}, "use_backend {backend}", "default_backend {backend}")},
	{Name: "HTTP_FRONTEND_APPID_ACL", Meaning: "The rule of the entry by X-Marathon-App-Id.", Deviation: "Always marathon-lb's own.", read: frame(frontendPlaceholders, "acl app_{cleanedUpAppId} hdr(x-marathon-app-id) -i {appId}", "use_backend {backend} if app_{cleanedUpAppId}")},
	{Name: "HTTP_FRONTEND_ACL", Meaning: "The rules by which names and paths lead to the service, as do the other templates with FRONTEND_ACL and FRONTEND_ROUTING in their names: hosts and paths compared as a whole, by their beginning or end, by domain or by expression.", Native: keys("host", "path", "path-match"), Deviation: "Rules that are given for one entry hold on all. Other lines are told of, and VHOST and PATH hold as they are."},
	{Name: "MAP_HTTP_FRONTEND_ACL", Meaning: "Nothing, as with marathon-lb: it never reads the templates with MAP in their names."},
}

// Foreign is a label of marathon-lb, for people.
type Foreign struct {
	Name      string // HAPROXY_N_X, or HAPROXY_X for a whole app
	Meaning   string
	Native    []string // keys of the native labels that it comes to
	Deviation string   // how it differs from marathon-lb on purpose, or ""
}

// MarathonLB returns marathon-lb's labels, in the order in which they are documented.
func MarathonLB() []Foreign {
	rows := make([]Foreign, len(marathonLBLabels))
	for i, l := range marathonLBLabels {
		name := marathonLBPrefix
		if !l.App {
			name += "N_"
		}
		rows[i] = Foreign{name + l.Name, l.Meaning, l.Native, l.Deviation}
	}
	return rows
}

func keys(native ...string) []string { return native }

// allowedACL reads a template of the comparison of addresses, which may say what marathon-lb says and nothing else.
func (t *translation) allowedACL(c claim) {
	if strings.HasPrefix(c.twin, "TCP") != (t.mode() == signalbox.TCP) {
		return
	}
	allowed, ok := t.labels["BACKEND_NETWORK_ALLOWED_ACL"]
	if !ok {
		t.idle(c, "means nothing without HAPROXY_N_BACKEND_NETWORK_ALLOWED_ACL")
		return
	}
	lines := t.lines(c, []string{"network_allowed"})
	if len(lines) != 1 || lines[0].err != nil || strings.Join(lines[0].words, " ") != "acl network_allowed src {network_allowed}" {
		t.close(allowed, "is compared in another way than by the client's address")
	}
}

// userList reads a template of the list of users, which may say what marathon-lb says and nothing else.
func (t *translation) userList(c claim) {
	lines := t.lines(c, []string{"backend", "user", "passwd"})
	if len(lines) == 2 && strings.Join(lines[0].words, " ") == "userlist user_{backend}" &&
		strings.Join(lines[1].words, " ") == "user {user} password {passwd}" {
		return
	}
	t.close(t.labels["AUTH"], "is beside a list of users that is not marathon-lb's own")
}
