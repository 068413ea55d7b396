package devcluster

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"
)

// standby answers as a Marathon that does not lead: it forwards, except for the event stream, which it redirects.
func (n *node) standby(w http.ResponseWriter, r *http.Request) {
	s := n.s
	own := strings.TrimPrefix(n.url, "http://")
	via := "1.1 " + own
	if slices.Contains(r.Header.Values("X-Marathon-Via"), via) {
		jettyError(w, http.StatusBadGateway, "Detected proxying loop.")
		return
	}
	for tries := 0; s.leaderless(); tries++ {
		if tries == 10 {
			jettyError(w, http.StatusBadGateway, "Could not determine the current leader")
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
	leader := s.LeaderURL()
	if strings.HasPrefix(r.URL.Path, "/v2/events") && !strings.HasPrefix(r.URL.Path, "/v2/eventS") && s.cfg.StandbyMode == "redirect" {
		w.Header().Set("Location", leader+r.URL.RequestURI())
		w.WriteHeader(http.StatusFound)
		return
	}
	target, err := url.Parse(leader)
	if err != nil {
		jettyError(w, http.StatusBadGateway, err.Error())
		return
	}
	proxy := &httputil.ReverseProxy{
		Transport: s.forward, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Header.Add("X-Marathon-Via", via)
			p.SetXForwarded()
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Set("X-Marathon-Via", via)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			reason := "Connection to leader failed."
			if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
				reason = "Connection to leader refused."
			}
			jettyError(w, http.StatusBadGateway, reason)
		},
	}
	proxy.ServeHTTP(w, r)
}
