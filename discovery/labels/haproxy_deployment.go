package labels

import (
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// deploymentLabels are marathon-lb's labels of a whole app, by what follows HAPROXY_, that tell of its part in a deployment. Tools
// for blue and green write them; APP_ID and DEPLOYMENT_ALT_PORT are for these tools alone.
var deploymentLabels = []string{
	"APP_ID", "DEPLOYMENT_ALT_PORT", "DEPLOYMENT_COLOUR", "DEPLOYMENT_GROUP", "DEPLOYMENT_NEW_INSTANCES", "DEPLOYMENT_STARTED_AT",
	"DEPLOYMENT_TARGET_INSTANCES",
}

// deployment reads the part that an app plays in a deployment group; nil where it belongs to none. What is wrong goes to problems.
func deployment(meta map[string]string, problems *[]signalbox.Problem) *signalbox.Deployment {
	get := func(name string) (claim, bool) {
		label := marathonLBPrefix + "DEPLOYMENT_" + name
		value, ok := meta[label]
		value, odd := clean(value)
		return claim{foreign: true, label: label, value: value, odd: odd}, ok
	}
	fail := func(c claim, text, action string) {
		*problems = append(*problems, c.problem("SB146", signalbox.SeverityError, text, action))
	}
	c, ok := get("GROUP")
	if !ok {
		return nil
	}
	group, text := groupID(c.value)
	if text != "" {
		fail(c, text, "the app is a service of its own")
		return nil
	}
	d := &signalbox.Deployment{Group: group}
	for name, to := range map[string]*string{"COLOUR": &d.Colour, "STARTED_AT": &d.StartedAt} {
		if c, ok := get(name); ok {
			if len(c.value) > maxName || !isASCII(c.value) {
				fail(c, "is longer than 64 bytes, or holds other characters than ASCII's", "it is ignored")
				continue
			}
			*to = c.value
		}
	}
	for name, to := range map[string]**int{"TARGET_INSTANCES": &d.Target, "NEW_INSTANCES": &d.New} {
		if c, ok := get(name); ok {
			n, err := strconv.Atoi(c.value)
			if err != nil || n < 0 || n > 1_000_000 {
				fail(c, "is not a number of instances", "it is ignored")
				continue
			}
			*to = &n
		}
	}
	return d
}

// groupID returns the id of the app that the members of a group make up, which begins with a slash like any other.
func groupID(s string) (id, text string) {
	s = "/" + strings.TrimPrefix(s, "/")
	if s == "/" {
		return "", "names no group"
	}
	segments := strings.Split(s[1:], "/")
	if len(s) > maxPath || slices.ContainsFunc(segments, func(seg string) bool {
		return strings.Trim(seg, ".") == "" || strings.ContainsFunc(seg, func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("-._", r) })
	}) {
		return "", "is not the id of an app: letters, digits and - . _ between slashes"
	}
	return s, ""
}

func isAlnum(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
