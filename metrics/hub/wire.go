package hub

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// PushPath is where a hub takes pushes. The body is the binary form of a snapshot of increments.
const PushPath = "/api/v1/push"

const contentType = "application/vnd.signalbox.snapshot"

// The header fields of a push.
const (
	headerNode     = "Signalbox-Node"     // the machine's name
	headerRun      = "Signalbox-Run"      // a random name of the process: sequences begin anew with it
	headerSequence = "Signalbox-Sequence" // 1, 2, …: a push that was not answered is sent again under its number, as it was
	headerScrape   = "Signalbox-Scrape"   // where Prometheus reads the machine's own metrics: ":9902", "10.0.0.5:9902"; or ""
)

// maxName bounds names, in bytes.
const maxName = 255

// header is what stands above a push.
type header struct {
	node, run string
	sequence  uint64
	scrape    string
}

func (h *header) write(to http.Header) {
	to.Set("Content-Type", contentType)
	to.Set(headerNode, h.node)
	to.Set(headerRun, h.run)
	to.Set(headerSequence, strconv.FormatUint(h.sequence, 10))
	if h.scrape != "" {
		to.Set(headerScrape, h.scrape)
	}
}

// readHeader reads what stands above a push. remote is who sends it: a scrape address without a host is a port there.
func readHeader(from http.Header, remote string) (h header, err error) {
	h.node, h.run = from.Get(headerNode), from.Get(headerRun)
	for _, name := range []string{h.node, h.run} {
		if name == "" || len(name) > maxName || !printable(name) {
			return h, fmt.Errorf("%s or %s is empty, too long or not printable", headerNode, headerRun)
		}
	}
	if h.sequence, err = strconv.ParseUint(from.Get(headerSequence), 10, 64); err != nil || h.sequence == 0 {
		return h, fmt.Errorf("%s is no number", headerSequence)
	}
	scrape := from.Get(headerScrape)
	if scrape == "" {
		return h, nil
	}
	host, port, err := net.SplitHostPort(scrape)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return h, errors.New(headerScrape + " is no address")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(remote); err != nil {
			return h, nil //nolint:nilerr // who sends it over something else than TCP has no address to be scraped at
		}
	} else if ip == nil {
		return h, errors.New(headerScrape + " is no address")
	}
	h.scrape = net.JoinHostPort(host, port)
	return h, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
