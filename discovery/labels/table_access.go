package labels

import (
	"net/netip"

	"signalbox"
)

// accessLabels say who may enter, and how TLS is spoken with clients.
var accessLabels = []Label{
	{
		Key: "tls", Type: "name of a certificate, or `passthrough`", Default: "none", Twin: "SSL_CERT",
		Doc:     "The certificate of the operator's directory with which the service answers over TLS; with passthrough the tasks terminate TLS themselves, and the mode is tcp.",
		Example: "shop", Invalid: "the service has no certificate of its own",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			name, bad := parsePlain(raw)
			switch {
			case bad != nil:
				return []flaw{*bad}, true
			case name == "passthrough":
				v.policy.Passthrough = true
			default:
				v.policy.TLS = name
			}
			return nil, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			v.policy.TLS, v.policy.Passthrough = prev.Policy.TLS, prev.Policy.Passthrough
			if v.policy.Passthrough {
				return "passthrough"
			}
			return v.policy.TLS
		},
	},
	onOff(Label{
		Key: "https-redirect", Default: "false", Twin: "REDIRECT_TO_HTTPS", HTTP: true,
		Doc: "Plain requests by name are sent to https, with 301.", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.HTTPSRedirect }),
	onOff(Label{
		Key: "hsts", Default: "false", Twin: "USE_HSTS", HTTP: true,
		Doc: "Answers over TLS tell browsers to come by https for half a year (Strict-Transport-Security).", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.HSTS }),
	{
		Key: "allow", Type: "IP addresses and networks, separated by comma or space; `all` for everybody", Default: "all", Twin: "BACKEND_NETWORK_ALLOWED_ACL", EveryPort: true,
		Doc: "Who may enter, by the client's address, on every way in. Others get 403, or no connection where the mode is tcp.", Example: "10.0.0.0/8, 2001:db8::/32",
		Invalid: "nobody may enter, not even by the items that can be read: the service answers 403",
		lost:    "nobody may enter", guards: true,
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			allowed, flaws := parseAllow(raw)
			for _, f := range flaws {
				if !f.used {
					return flaws, true
				}
			}
			v.policy.Allow = allowed
			return flaws, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			if len(prev.Policy.Allow) == 0 {
				return ""
			}
			v.policy.Allow = prev.Policy.Allow
			return prefixText(v.policy.Allow)
		},
	},
	{
		Key: "auth", Type: "name of a list of users that the operator has given; realm:user:hash, the hash as crypt(3) writes it; or `off`", Default: "off", Twin: "AUTH", EveryPort: true, Secret: true,
		Doc: "Clients must give a name and a password, on every way in. A list that the operator has not given lets nobody in.", Example: "staff",
		Invalid: "nobody may enter: the service answers 403",
		lost:    "nobody may enter", guards: true,
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			auth, bad := parseAuth(raw)
			if bad != nil {
				return []flaw{*bad}, true
			}
			v.policy.Auth = auth
			return nil, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			if prev.Policy.Auth == nil {
				return ""
			}
			v.policy.Auth = prev.Policy.Auth
			if v.policy.Auth.List != "" {
				return v.policy.Auth.List
			}
			return "for the user " + v.policy.Auth.User
		},
	},
	scalar(Label{
		Key: "rate-limit", Type: "requests per time: `100/s`, `30/10s`, `1000/m`; or `off`", Default: "off", EveryPort: true, HTTP: true,
		Doc: "How many requests one client address may make. Those beyond it get 429.", Example: "100/s",
		Invalid: "no limit holds",
	}, func(p *signalbox.Policy) *signalbox.RateLimit { return &p.RateLimit }, parseRate),
}

func prefixText(all []netip.Prefix) string {
	text := ""
	for i, p := range all {
		if i > 0 {
			text += ", "
		}
		text += p.String()
	}
	return text
}
