package haproxy

import (
	"strings"
	"testing"

	"signalbox"
)

// The path that Match says a task is asked for is the one that it is asked for.
func TestMatchSaysWhatTasksAreAskedFor(t *testing.T) {
	end := task(t, "task")
	with := func(s *signalbox.Service, policy signalbox.Policy) *signalbox.Service {
		s.Policy, s.Endpoints = policy, []signalbox.Endpoint{end}
		return s
	}
	l := start(t, tableOf(
		with(routed("/none", "none/", "none/a"), signalbox.Policy{}),
		with(routed("/strip", "strip/", "strip/a", "strip/a/b", "=strip/e/f"), signalbox.Policy{StripPrefix: true}),
		with(routed("/rewrite", "rewrite/", "rewrite/a", "rewrite/a/b", "=rewrite/e/f"), signalbox.Policy{RewritePath: "/new"}),
		with(routed("/other", "other/"), signalbox.Policy{StripPath: "/a"}),
		with(routed("/root", "root/"), signalbox.Policy{RedirectRoot: "/start"}),
	))
	for _, host := range []string{"none", "strip", "rewrite", "other", "root"} {
		for _, path := range []string{"/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/", "/ab", "/e/f", "/e", "/x/a"} {
			answer := l.now.Match(Request{Host: host, Path: path})
			code, body := l.get(host, path)
			words := strings.Fields(body)
			if code == 301 && answer.Status == 301 {
				continue
			}
			if code != 200 || answer.Status != 0 || words[1] != answer.Sent {
				t.Errorf("%s%s: %d %s, Match says %s, sent %s", host, path, code, body, said(answer), answer.Sent)
			}
		}
	}
}
