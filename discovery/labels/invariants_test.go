package labels

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox"
)

// What strings of each kind are made of. The patterns are written anew: those of the parser would share its errors.
var (
	safeHost     = regexp.MustCompile(`^(|(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)$`)
	safePath     = regexp.MustCompile(`^(/|(/([A-Za-z0-9._~!&()+=:@-]|%[0-9A-Fa-f]{2})+)+)$`)
	safeExact    = regexp.MustCompile(`^/(([A-Za-z0-9._~!&()+=:@-]|%[0-9A-Fa-f]{2})+/?)*$`)
	safeTarget   = regexp.MustCompile(`^/(([A-Za-z0-9._~!&()+=:@-]|%[0-9A-Fa-f]{2})+/?)*(\?[A-Za-z0-9._~!&()+;=:@/?,%-]*)?$`)
	safeTemplate = regexp.MustCompile(`^/((([A-Za-z0-9._~!&()+=:@-]|%[0-9A-Fa-f]{2})+|\{[A-Za-z_][A-Za-z0-9_]*\})/?)*$`)
	safeExpr     = regexp.MustCompile("^[!$-&(-_a-~]{1,200}$") // printable, without space, quotes and #
	capital      = regexp.MustCompile(`(^|[^\\])[A-Z]`)
	safeGroup    = regexp.MustCompile(`^(\*|[A-Za-z0-9][A-Za-z0-9._/:-]*)$`)
	safeName     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)
	safeHeader   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	safeValue    = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
	safeOrigin   = regexp.MustCompile(`^(\*|https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?)$`)
	safeSample   = regexp.MustCompile(`^(|on|off|errors|external|1/[1-9][0-9]{0,6})$`)
	safeHash     = regexp.MustCompile(`^[./A-Za-z0-9$=]{13,200}$`)
	safeRealm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 ._-]{0,63}$`)
	safeUser     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	safeRefusal  = regexp.MustCompile(`^(|the label [a-z]+( and [a-z]+)* cannot be carried out)$`)
)

// unsafe says what in a result is not of its type, or "".
func unsafe(r Result) string {
	problems := slices.Clone(r.Problems)
	for _, p := range r.Ports {
		problems = append(problems, p.Problems...)
		if why := unsafePort(&p); why != "" {
			return fmt.Sprintf("port %d: %s", p.Index, why)
		}
	}
	if len(problems) > 40*max(1, len(r.Ports)) {
		return fmt.Sprintf("%d problems", len(problems))
	}
	for _, p := range problems {
		if s := p.String(); !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || len(s) > 2000 {
			return fmt.Sprintf("problem %.200q", s)
		}
		if p.Code == "" || p.Severity == "" || p.App == "" || p.Message == "" || p.Action == "" {
			return fmt.Sprintf("problem with gaps: %+v", p)
		}
	}
	return ""
}

func unsafePort(p *PortResult) string {
	for _, route := range p.Routes {
		if why := unsafeRoute(route); why != "" {
			return why
		}
	}
	if !slices.IsSortedFunc(p.Routes, signalbox.Route.Compare) || len(slices.Compact(slices.Clone(p.Routes))) != len(p.Routes) {
		return fmt.Sprintf("routes %v are not sorted, each once", p.Routes)
	}
	hosts, paths := map[string]bool{}, map[string]bool{}
	for _, r := range p.Routes {
		hosts[r.Host], paths[string(r.Match)+r.Path] = true, true
	}
	if len(p.Routes) != len(hosts)*len(paths) {
		return fmt.Sprintf("routes %v are not every host with every path: haproxy strips prefixes whatever the host", p.Routes)
	}
	if p.Listen < 0 || p.Listen > 65535 {
		return fmt.Sprintf("listen %d", p.Listen)
	}
	if p.Mode != signalbox.HTTP && p.Mode != signalbox.TCP {
		return fmt.Sprintf("mode %q", p.Mode)
	}
	if p.Mode == signalbox.TCP && len(p.Routes) > 0 && !p.Policy.Passthrough {
		return "mode tcp with routes"
	}
	for _, g := range p.Groups {
		if !safeGroup.MatchString(g) || len(g) > 64 {
			return fmt.Sprintf("group %q", g)
		}
	}
	c := p.Check(signalbox.Check{})
	if (c.Kind == signalbox.CheckHTTP) != (c.Path != "") || c.Path != "" && !safeTarget.MatchString(c.Path) || len(c.Path) > 1024 {
		return fmt.Sprintf("check %+v", c)
	}
	if c.Interval != 0 && (c.Interval < 500*time.Millisecond || c.Interval > 5*time.Minute) {
		return fmt.Sprintf("interval %s", c.Interval)
	}
	return unsafePolicy(&p.Policy, p.Mode)
}

func unsafeRoute(r signalbox.Route) string {
	if expr, ok := strings.CutPrefix(r.Host, "~"); ok {
		if !safeExpr.MatchString(expr) || capital.MatchString(expr) {
			return fmt.Sprintf("host %q", r.Host)
		}
	} else if !safeHost.MatchString(r.Host) || len(r.Host) > 253 {
		return fmt.Sprintf("host %q", r.Host)
	}
	pattern := map[signalbox.Match]*regexp.Regexp{signalbox.Prefix: safePath, signalbox.Exact: safeExact, signalbox.Regex: safeExpr}[r.Match]
	if pattern == nil || !pattern.MatchString(r.Path) || len(r.Path) > 1024 {
		return fmt.Sprintf("path %q (%s)", r.Path, r.Match)
	}
	if r.Match != signalbox.Regex && (strings.Contains(r.Path, "/../") || strings.HasSuffix(r.Path, "/..")) {
		return fmt.Sprintf("path %q", r.Path)
	}
	return ""
}

// policyChecks says of each field of a policy whether it is of its type.
var policyChecks = map[string]func(y *signalbox.Policy) bool{
	"Priority": func(y *signalbox.Policy) bool { return -1_000_000 <= y.Priority && y.Priority <= 1_000_000 },
	"Weight":   func(y *signalbox.Policy) bool { return y.Weight == nil || 0 <= *y.Weight && *y.Weight <= 256 },
	"Balance": func(y *signalbox.Policy) bool {
		return y.Balance == "" || slices.Contains(signalbox.Balances, y.Balance)
	},
	"Sticky":    func(y *signalbox.Policy) bool { return y.Sticky == "" || safeName.MatchString(y.Sticky) },
	"SlowStart": func(y *signalbox.Policy) bool { return within(y.SlowStart, 0, time.Hour) },
	"MaxConn":   func(y *signalbox.Policy) bool { return 0 <= y.MaxConn && y.MaxConn <= 1_000_000 },
	"Timeout": func(y *signalbox.Policy) bool {
		return y.Timeout == 0 || within(y.Timeout, 100*time.Millisecond, 24*time.Hour)
	},
	"ConnectTimeout": func(y *signalbox.Policy) bool {
		return y.ConnectTimeout == 0 || within(y.ConnectTimeout, 10*time.Millisecond, time.Minute)
	},
	"Retries": func(y *signalbox.Policy) bool { return y.Retries == nil || 0 <= *y.Retries && *y.Retries <= 10 },
	"Allow": func(y *signalbox.Policy) bool {
		return slices.IsSortedFunc(y.Allow, netip.Prefix.Compare) && !slices.ContainsFunc(y.Allow, func(p netip.Prefix) bool {
			return !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6()
		})
	},
	"Auth": func(y *signalbox.Policy) bool {
		a := y.Auth
		return a == nil || safeRealm.MatchString(a.Realm) &&
			(safeName.MatchString(a.List) && a.User == "" && a.Hash == "" || a.List == "" && safeUser.MatchString(a.User) && safeHash.MatchString(a.Hash))
	},
	"RateLimit": func(y *signalbox.Policy) bool {
		r := y.RateLimit
		return r == signalbox.RateLimit{} || 1 <= r.Requests && r.Requests <= 1_000_000 && within(r.Per, time.Second, time.Hour) && r.Per%time.Second == 0
	},
	"Refused":       func(y *signalbox.Policy) bool { return safeRefusal.MatchString(y.Refused) },
	"TLS":           func(y *signalbox.Policy) bool { return y.TLS == "" || safeName.MatchString(y.TLS) && !y.Passthrough },
	"Passthrough":   always,
	"PortTLS":       always,
	"HTTPSRedirect": always,
	"HSTS":          always,
	"BindAddress": func(y *signalbox.Policy) bool {
		return !y.BindAddress.IsValid() || y.BindAddress.Zone() == "" && !y.BindAddress.Is4In6()
	},
	"AcceptProxy": always,
	"StripPath": func(y *signalbox.Policy) bool {
		return y.StripPath == "" || safePath.MatchString(y.StripPath) && y.RewritePath == "" && !y.StripPrefix
	},
	"StripPrefix": func(y *signalbox.Policy) bool { return !y.StripPrefix || y.RewritePath == "" },
	"RewritePath": func(y *signalbox.Policy) bool { return y.RewritePath == "" || safePath.MatchString(y.RewritePath) },
	"RewriteHost": func(y *signalbox.Policy) bool {
		return safeHost.MatchString(y.RewriteHost) && len(y.RewriteHost) <= 253
	},
	"RewriteLocation": func(y *signalbox.Policy) bool {
		return y.RewriteLocation == "" || safePath.MatchString(y.RewriteLocation)
	},
	"RedirectRoot": func(y *signalbox.Policy) bool {
		return y.RedirectRoot == "" || safeTarget.MatchString(y.RedirectRoot) && len(y.RedirectRoot) <= 1024
	},
	"CORS": func(y *signalbox.Policy) bool {
		return slices.IsSorted(y.CORS) && all(y.CORS, func(s string) bool { return safeOrigin.MatchString(s) && len(s) < 300 })
	},
	"RequestHeaders":  func(y *signalbox.Policy) bool { return safeHeaders(y.RequestHeaders) },
	"ResponseHeaders": func(y *signalbox.Policy) bool { return safeHeaders(y.ResponseHeaders) },
	"ErrorPages": func(y *signalbox.Policy) bool {
		return len(y.ErrorPages) <= 16 && all(y.ErrorPages, func(p signalbox.ErrorPage) bool {
			return 400 <= p.Status && p.Status <= 504 && safeName.MatchString(p.Name)
		})
	},
	"BackendTLS": func(y *signalbox.Policy) bool {
		return slices.Contains([]signalbox.BackendTLS{"", "insecure", "verify"}, y.BackendTLS)
	},
	"HTTP2":     always,
	"SendProxy": always,
	"TaskPort":  func(y *signalbox.Policy) bool { return 0 <= y.TaskPort && y.TaskPort <= 65535 },
	"Raw":       func(y *signalbox.Policy) bool { return len(y.Raw) == 0 },
	"LogHeaders": func(y *signalbox.Policy) bool {
		return slices.IsSorted(y.LogHeaders) && len(y.LogHeaders) <= signalbox.MaxLogHeaders &&
			all(y.LogHeaders, func(s string) bool {
				return isToken(s) && s == strings.ToLower(s) && s != "cookie" && s != "authorization"
			})
	},
	"RoutePatterns": func(y *signalbox.Policy) bool {
		return slices.IsSorted(y.RoutePatterns) && all(y.RoutePatterns, func(s string) bool { return safeTemplate.MatchString(s) && len(s) <= 1024 })
	},
	"SLO": func(y *signalbox.Policy) bool {
		return y.SLO == signalbox.SLO{} || 0 < y.SLO.Objective && y.SLO.Objective < 1 && within(y.SLO.Latency, 0, 5*time.Minute)
	},
	"Log":   func(y *signalbox.Policy) bool { return safeSample.MatchString(y.Log) },
	"Trace": func(y *signalbox.Policy) bool { return safeSample.MatchString(y.Trace) },
	"Owner": func(y *signalbox.Policy) bool {
		return len(y.Owner) <= 200 && utf8.ValidString(y.Owner) && !strings.ContainsFunc(y.Owner, func(r rune) bool { return !unicode.IsGraphic(r) })
	},
	"Docs": func(y *signalbox.Policy) bool {
		u, err := url.Parse(y.Docs)
		return y.Docs == "" || err == nil && strings.HasPrefix(u.Scheme, "http") && u.Host != "" && u.User == nil && !strings.ContainsAny(y.Docs, "\"'<> \n")
	},
}

// httpOnly are fields that a service of mode tcp does not have.
var httpOnly = []string{
	"Sticky", "Auth", "RateLimit", "HTTPSRedirect", "HSTS", "StripPrefix", "StripPath", "RewritePath", "RewriteHost", "RewriteLocation", "RedirectRoot",
	"CORS", "RequestHeaders", "ResponseHeaders", "ErrorPages", "HTTP2", "RoutePatterns", "LogHeaders",
}

// unsafePolicy says which field of a policy is not of its type, or "".
func unsafePolicy(y *signalbox.Policy, mode signalbox.Mode) string {
	v := reflect.ValueOf(y).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		check := policyChecks[name]
		if check == nil {
			return "nothing checks the field " + name
		}
		if !check(y) {
			return fmt.Sprintf("%s %.200q", name, fmt.Sprint(v.Field(i).Interface()))
		}
		if mode == signalbox.TCP && slices.Contains(httpOnly, name) && !v.Field(i).IsZero() {
			return "mode tcp with " + name
		}
		if v.Field(i).Kind() == reflect.Slice && v.Field(i).Len() > 512 {
			return fmt.Sprintf("%s has %d items", name, v.Field(i).Len())
		}
	}
	if text := y.String(); y.Auth != nil && y.Auth.Hash != "" && strings.Contains(text, y.Auth.Hash) {
		return "the hash is shown"
	}
	return ""
}

func always(*signalbox.Policy) bool { return true }

func within(d, lo, hi time.Duration) bool { return lo <= d && d <= hi && d%time.Millisecond == 0 }

func all[T any](items []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(items, func(x T) bool { return !holds(x) })
}

func safeHeaders(hs []signalbox.Header) bool {
	named := map[string]bool{}
	for _, h := range hs {
		name := strings.ToLower(h.Name)
		if !safeHeader.MatchString(h.Name) || !safeValue.MatchString(h.Value) || len(h.Value) > 1024 || named[name] {
			return false
		}
		if name == "host" || name == "content-length" || name == "transfer-encoding" || strings.HasPrefix(name, "x-forwarded") {
			return false
		}
		named[name] = true
	}
	return len(hs) <= 32
}
