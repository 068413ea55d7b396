package main

import (
	"testing"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

// sampleExplanation is what the fake controller answers.
func sampleExplanation(status *signalbox.Status, q admin.Question) (admin.Explanation, error) {
	a, err := readQuestion(q)
	if err != nil {
		return admin.Explanation{}, err
	}
	e := explain(haproxy.Build(status.Table, &haproxy.Options{HTTPBind: []string{":80"}}, nil), a, status.At)
	e.URL, e.Node, e.Generation, e.AppliedAt = q.URL, "slave-1", status.HAProxy.Generation, status.HAProxy.AppliedAt
	for i := range e.Destinations {
		e.Destinations[i].Counted = &admin.ServiceStat{Requests: 12345, PerSecond: 12.44, P50: 0.0081, P99: 0.041, ErrorRatio: 0.0002, Span: 300}
	}
	return e, nil
}

func TestQuestionsAreReadAsClientsAskThem(t *testing.T) {
	f := func(q admin.Question, want haproxy.Request, port int) {
		t.Helper()
		a, err := readQuestion(q)
		if err != nil || a.Request != want || a.port != port {
			t.Errorf("%+v is read as %+v at port %d, %v; want %+v at %d", q, a.Request, a.port, err, want, port)
		}
	}
	f(admin.Question{URL: "shop.local"}, haproxy.Request{Host: "shop.local"}, 80)
	f(admin.Question{URL: "http://Shop.Local:8000/a%2Fb/../c?x=1#f"}, haproxy.Request{Host: "Shop.Local:8000", Path: "/a%2Fb/../c", Query: "x=1"}, 8000)
	f(admin.Question{URL: "https://shop.local/", Method: "POST"}, haproxy.Request{Host: "shop.local", Path: "/", TLS: true, Method: "POST"}, 443)
	f(admin.Question{URL: "http://127.0.0.1/", Host: "shop.local"}, haproxy.Request{Host: "shop.local", Path: "/"}, 80)
	for _, q := range []admin.Question{{URL: ""}, {URL: "ftp://shop.local/"}, {URL: "shtp://shop.local/"}, {URL: "http://shop.local:x/"}, {URL: "http://shop.local:65536/"}, {URL: "shop.local", Source: "me"}} {
		if _, err := readQuestion(q); err == nil {
			t.Errorf("%+v is taken for a request", q)
		}
	}
}
