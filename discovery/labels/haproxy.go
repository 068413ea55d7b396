package labels

import (
	"slices"
	"strings"
)

// marathonLB reads the labels of marathon-lb: HAPROXY_GROUP and HAPROXY_N_X, N the index of the port. It turns them into native
// ones, each of which the row of that label checks. Where it differs from marathon-lb on purpose stands in MarathonLB.
var marathonLB = dialect{name: "haproxy", read: readMarathonLB}

const marathonLBPrefix = "HAPROXY_"

// The templates that a label may put another text in the place of, by where marathon-lb puts it.
var (
	backendTemplates = []string{
		"BACKEND_HEAD", "BACKEND_HSTS_OPTIONS", "BACKEND_HTTP_OPTIONS", "BACKEND_HTTP_HEALTHCHECK_OPTIONS", "BACKEND_TCP_HEALTHCHECK_OPTIONS",
		"BACKEND_STICKY_OPTIONS", "HTTP_BACKEND_PROXYPASS_GLUE", "HTTP_BACKEND_REVPROXY_GLUE", "HTTP_BACKEND_NETWORK_ALLOWED_ACL",
		"TCP_BACKEND_NETWORK_ALLOWED_ACL",
	}
	serverTemplates = []string{
		"BACKEND_SERVER_OPTIONS", "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS", "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS",
	}
	frontendTemplates = []string{
		"HTTP_FRONTEND_ACL", "HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ROUTING_ONLY", "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH",
		"HTTP_FRONTEND_ACL_WITH_AUTH", "HTTP_FRONTEND_ACL_WITH_PATH", "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH",
		"HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH", "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH",
		"HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH", "HTTPS_FRONTEND_ACL", "HTTPS_FRONTEND_ACL_ONLY_WITH_PATH",
		"HTTPS_FRONTEND_ACL_WITH_AUTH", "HTTPS_FRONTEND_ACL_WITH_PATH", "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH",
	}
	frameTemplates = []string{
		"FRONTEND_HEAD", "FRONTEND_BACKEND_GLUE", "USERLIST_HEAD", "BACKEND_REDIRECT_HTTP_TO_HTTPS",
		"BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH", "HTTP_FRONTEND_APPID_ACL",
	}
	deadTemplates = []string{"MAP_HTTP_FRONTEND_ACL", "MAP_HTTP_FRONTEND_ACL_ONLY", "MAP_HTTP_FRONTEND_APPID_ACL", "MAP_HTTPS_FRONTEND_ACL"}
	allTemplates  = slices.Concat(backendTemplates, serverTemplates, frontendTemplates, frameTemplates, deadTemplates)
)

// mayBeEmpty reports whether marathon-lb takes a label that is empty for one that is not set. An empty list of addresses, a password or
// a group is none of these: it decides who may enter.
func mayBeEmpty(twin string) bool {
	return slices.Contains(behaviours, twin) && !slices.Contains([]string{"AUTH", "BACKEND_NETWORK_ALLOWED_ACL", "ENABLED", "GROUP"}, twin)
}

func isTemplate(name string) bool { return slices.Contains(allTemplates, name) }

// isBackendTemplate reports whether marathon-lb puts a template into the section of the service's own backend.
func isBackendTemplate(name string) bool { return slices.Contains(backendTemplates, name) }

// ruleSet names the templates that make up the rules of the two shared frontends.
type ruleSet struct{ http, https []string }

// redirects stand in the place of the rule that leads to the service where plain requests are sent to https; no label changes them here.
const (
	redirects         = "BACKEND_REDIRECT_HTTP_TO_HTTPS"
	redirectsWithPath = "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH"
)

// frontendRules returns the templates that marathon-lb uses for a port with one name or several, with a path, with a password, with a
// redirect to https.
func frontendRules(several, path, auth, redirect bool) ruleSet {
	var r ruleSet
	switch {
	case path && auth:
		r.https = []string{"HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH"}
	case path:
		r.https = []string{"HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", "HTTPS_FRONTEND_ACL_WITH_PATH"}
	case auth:
		r.https = []string{"HTTPS_FRONTEND_ACL_WITH_AUTH"}
	default:
		r.https = []string{"HTTPS_FRONTEND_ACL"}
	}
	switch {
	case several && path && auth && redirect:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH", "HTTP_FRONTEND_ACL_ONLY", redirectsWithPath}
	case several && path && auth:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH", "HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH"}
	case path && redirect:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "HTTP_FRONTEND_ACL_ONLY", redirectsWithPath}
	case several && path:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH"}
	case several && redirect:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY", redirects}
	case several && auth:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH"}
	case several:
		r.http = []string{"HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ROUTING_ONLY"}
	case path && auth:
		r.http = []string{"HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH"}
	case path:
		r.http = []string{"HTTP_FRONTEND_ACL_WITH_PATH"}
	case auth && !redirect:
		r.http = []string{"HTTP_FRONTEND_ACL_WITH_AUTH"}
	default:
		r.http = []string{"HTTP_FRONTEND_ACL"}
	}
	return r
}

// The conditions that the templates of the shared frontends stand for where no label changes them.
const (
	ruleHost     = "acl host hdr(host) {hostname}\n"
	rulePath     = "acl path_{backend} path_beg {path}\n"
	useHost      = "use_backend {backend} if host\n"
	useHostPath  = "use_backend {backend} if host path_{backend}\n"
	useSNI       = "use_backend {backend} if { ssl_fc_sni {hostname} }\n"
	useSNIPath   = "use_backend {backend} if { ssl_fc_sni {hostname} } path_{backend}\n"
	namedHost    = "acl host_{cleanedUpHostname} hdr(host) {hostname}\n"
	useNamedHost = "use_backend {backend} if host_{cleanedUpHostname}\n"
	useNamedPath = "use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n"
)

var defaultRules = map[string]string{
	"HTTP_FRONTEND_ACL": ruleHost + useHost, "HTTP_FRONTEND_ACL_WITH_AUTH": ruleHost + useHost,
	"HTTP_FRONTEND_ACL_WITH_PATH": ruleHost + rulePath + useHostPath, "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH": ruleHost + rulePath + useHostPath,
	"HTTP_FRONTEND_ACL_ONLY": namedHost, "HTTP_FRONTEND_ROUTING_ONLY": useNamedHost, "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH": useNamedHost,
	"HTTP_FRONTEND_ACL_ONLY_WITH_PATH": rulePath, "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH": rulePath,
	"HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH": useNamedPath, "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH": useNamedPath,
	"HTTPS_FRONTEND_ACL": useSNI, "HTTPS_FRONTEND_ACL_WITH_AUTH": useSNI, "HTTPS_FRONTEND_ACL_ONLY_WITH_PATH": rulePath,
	"HTTPS_FRONTEND_ACL_WITH_PATH": useSNIPath, "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH": useSNIPath,
	redirects: useNamedHost, redirectsWithPath: useNamedPath,
}

// The placeholders that marathon-lb fills in.
var (
	frontendPlaceholders = []string{"cleanedUpHostname", "hostname", "backend", "path", "realm", "cleanedUpAppId", "appId"}
	headPlaceholders     = []string{"backend", "balance", "mode"}
	bindPlaceholders     = []string{"bindAddr", "backend", "servicePort", "mode", "sslCert", "bindOptions"}
	checkPlaceholders    = []string{
		"healthCheckPortIndex", "healthCheckPort", "healthCheckProtocol", "healthCheckPath", "healthCheckTimeoutSeconds", "healthCheckIntervalSeconds",
		"healthCheckGracePeriodSeconds", "healthCheckMaxConsecutiveFailures", "healthCheckFalls", "healthCheckPortOptions",
	}
	serverPlaceholders = []string{"host", "host_ipv4", "port", "serverName", "serverId", "cookieOptions", "healthCheckOptions", "otherOptions"}
)

func readMarathonLB(name, value string) ([]claim, *flaw, bool) {
	rest, ok := strings.CutPrefix(name, marathonLBPrefix)
	if !ok {
		if len(name) < len(marathonLBPrefix) || !strings.EqualFold(name[:len(marathonLBPrefix)], marathonLBPrefix) {
			return nil, nil, false
		}
		return unknownMarathonLB(strings.ToUpper(name), value)
	}
	if rest == "GROUP" {
		return []claim{{rank: rankForeignApp, key: "group", foreign: true, value: value}}, nil, true
	}
	if slices.Contains(deploymentLabels, rest) {
		return []claim{{foreign: true}}, nil, true
	}
	index, twin, ok := strings.Cut(rest, "_")
	if !ok || index == "" || strings.Trim(index, "0123456789") != "" {
		return unknownMarathonLB(name, value)
	}
	if !isMarathonLB(twin) {
		claims, bad, _ := unknownMarathonLB(name, value)
		return append(claims, claim{foreign: true}), bad, true
	}
	return []claim{{rank: rankForeign, port: index, foreign: true, twin: twin, value: value}}, nil, true
}

// behaviours are the labels of one port that are no templates.
var behaviours = []string{
	"AUTH", "BACKEND_HEALTHCHECK_PORT_INDEX", "BACKEND_NETWORK_ALLOWED_ACL", "BACKEND_WEIGHT", "BALANCE", "BIND_ADDR", "BIND_OPTIONS",
	"ENABLED", "GROUP", "HTTP_BACKEND_PROXYPASS_PATH", "HTTP_BACKEND_REDIR", "HTTP_BACKEND_REVPROXY_PATH", "MODE", "PATH", "PORT",
	"REDIRECT_TO_HTTPS", "SSL_CERT", "STICKY", "USE_HSTS", "VHOST",
}

// isMarathonLB reports whether HAPROXY_N_ and twin are a label.
func isMarathonLB(twin string) bool { return slices.Contains(behaviours, twin) || isTemplate(twin) }

// native returns the claim with the key that its twin restricts access by, where it does.
func (c claim) native() claim {
	for i := range table {
		if l := &table[i]; l.guards && (c.twin == l.Twin || isTemplate(c.twin) && strings.HasSuffix(c.twin, "_"+l.Twin)) {
			c.key = l.Key
		}
	}
	return c
}

// unknownMarathonLB suggests the label that was probably meant: HAPROXY_0_VHOST for HAPROXY_VHOST and for HAPROXY_O_VHOST.
func unknownMarathonLB(name, value string) ([]claim, *flaw, bool) {
	index, port := "0", ""
	if i, _, ok := strings.Cut(strings.TrimPrefix(name, marathonLBPrefix), "_"); ok && i != "" && strings.Trim(i, "0123456789") == "" {
		index, port = i, i
	}
	candidates := []string{"HAPROXY_GROUP"}
	for _, twin := range slices.Concat(behaviours, allTemplates) {
		candidates = append(candidates, marathonLBPrefix+index+"_"+twin)
	}
	for _, twin := range deploymentLabels {
		candidates = append(candidates, marathonLBPrefix+twin)
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	if best := nearest(name, candidates); best != "" {
		f.text += "; did you mean " + best + "?"
		twin := strings.TrimPrefix(best, marathonLBPrefix+index+"_")
		return stray(claim{rank: rankForeign, port: port, foreign: true, twin: twin, value: value}.native()), f, true
	}
	return nil, f, true
}
