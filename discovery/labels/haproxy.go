package labels

import (
	"slices"
	"strings"
)

// marathonLB reads the labels of marathon-lb: HAPROXY_GROUP and HAPROXY_N_X, N the index of the port. It differs from
// marathon-lb on purpose in that lists are trimmed, that paths end on segment boundaries, that a name holds whatever the port
// in the request, and that 1 and on are true as well.
var marathonLB = dialect{name: "haproxy", read: readMarathonLB}

const marathonLBPrefix = "HAPROXY_"

// marathonLBOthers are labels of marathon-lb that have no effect here. Templates are among them: a label never becomes text of
// a configuration.
var marathonLBOthers = []string{
	"BACKEND_HEAD", "BACKEND_HEALTHCHECK_PORT_INDEX", "BACKEND_HSTS_OPTIONS", "BACKEND_HTTP_BACKEND_PROXYPASS_GLUE",
	"BACKEND_HTTP_HEALTHCHECK_OPTIONS", "BACKEND_HTTP_OPTIONS", "BACKEND_REDIRECT_HTTP_TO_HTTPS",
	"BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH", "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS", "BACKEND_SERVER_OPTIONS",
	"BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS", "BACKEND_STICKY_OPTIONS", "BACKEND_TCP_HEALTHCHECK_OPTIONS", "BACKEND_WEIGHT",
	"BALANCE", "BIND_ADDR", "BIND_OPTIONS", "FRONTEND_BACKEND_GLUE", "FRONTEND_HEAD", "HTTPS_FRONTEND_ACL",
	"HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", "HTTPS_FRONTEND_ACL_WITH_AUTH", "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH",
	"HTTPS_FRONTEND_ACL_WITH_PATH", "HTTP_BACKEND_NETWORK_ALLOWED_ACL", "HTTP_BACKEND_PROXYPASS_GLUE",
	"HTTP_BACKEND_PROXYPASS_PATH", "HTTP_BACKEND_REDIR", "HTTP_BACKEND_REVPROXY_GLUE", "HTTP_BACKEND_REVPROXY_PATH",
	"HTTP_FRONTEND_ACL", "HTTP_FRONTEND_ACL_ONLY", "HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH",
	"HTTP_FRONTEND_ACL_WITH_AUTH", "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH", "HTTP_FRONTEND_ACL_WITH_PATH",
	"HTTP_FRONTEND_APPID_ACL", "HTTP_FRONTEND_ROUTING_ONLY", "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH",
	"HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH", "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH", "MAP_HTTPS_FRONTEND_ACL",
	"MAP_HTTP_FRONTEND_ACL", "MAP_HTTP_FRONTEND_ACL_ONLY", "MAP_HTTP_FRONTEND_APPID_ACL", "REDIRECT_TO_HTTPS", "SSL_CERT", "STICKY",
	"TCP_BACKEND_NETWORK_ALLOWED_ACL", "USERLIST_HEAD", "USE_HSTS",
}

// marathonLBOfApp are labels of marathon-lb for a whole app that have no effect here.
var marathonLBOfApp = []string{
	"HAPROXY_APP_ID", "HAPROXY_DEPLOYMENT_ALT_PORT", "HAPROXY_DEPLOYMENT_COLOUR", "HAPROXY_DEPLOYMENT_GROUP",
	"HAPROXY_DEPLOYMENT_NEW_INSTANCES", "HAPROXY_DEPLOYMENT_STARTED_AT", "HAPROXY_DEPLOYMENT_TARGET_INSTANCES",
}

func readMarathonLB(name, value string) ([]claim, *flaw, bool) {
	rest, ok := strings.CutPrefix(name, marathonLBPrefix)
	if !ok {
		if len(name) < len(marathonLBPrefix) || !strings.EqualFold(name[:len(marathonLBPrefix)], marathonLBPrefix) {
			return nil, nil, false
		}
		return nil, unknownMarathonLB(strings.ToUpper(name)), true
	}
	if rest == "GROUP" {
		return []claim{{rank: rankForeignApp, key: "group", foreign: true, value: value}}, nil, true
	}
	noEffect := &flaw{code: "SB108", text: "is a label of marathon-lb that has no effect here", warn: true}
	if slices.Contains(marathonLBOfApp, name) {
		return []claim{{foreign: true}}, noEffect, true
	}
	index, twin, ok := strings.Cut(rest, "_")
	if !ok || index == "" || strings.Trim(index, "0123456789") != "" {
		return nil, unknownMarathonLB(name), true
	}
	c := claim{rank: rankForeign, port: index, foreign: true, value: value}
	for i := range table {
		if table[i].Twin == twin {
			c.key = table[i].Key
			return []claim{c}, nil, true
		}
	}
	if slices.Contains(marathonLBOthers, twin) {
		return []claim{c}, noEffect, true
	}
	return []claim{{foreign: true}}, unknownMarathonLB(name), true
}

// unknownMarathonLB suggests the label that was probably meant: HAPROXY_0_VHOST for HAPROXY_VHOST and for HAPROXY_O_VHOST.
func unknownMarathonLB(name string) *flaw {
	index := "0"
	if i, _, ok := strings.Cut(strings.TrimPrefix(name, marathonLBPrefix), "_"); ok && i != "" && strings.Trim(i, "0123456789") == "" {
		index = i
	}
	candidates := []string{"HAPROXY_GROUP"}
	for i := range table {
		if table[i].Twin != "" {
			candidates = append(candidates, marathonLBPrefix+index+"_"+table[i].Twin)
		}
	}
	for _, twin := range marathonLBOthers {
		candidates = append(candidates, marathonLBPrefix+index+"_"+twin)
	}
	f := &flaw{code: "SB102", text: "is unknown"}
	if best := nearest(name, candidates); best != "" {
		f.text += "; did you mean " + best + "?"
	}
	return f
}
