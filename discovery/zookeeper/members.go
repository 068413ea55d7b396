package zookeeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"

	"signalbox/discovery"
)

// MembersConfig says where a Marathon holds its elections.
type MembersConfig struct {
	Config
	// Path is the one of Marathon's own --zk: "/marathon".
	Path string
	// Scheme is what members speak, http or https; ZooKeeper has only their hosts and ports. Default http.
	Scheme string
	// File keeps the last known list, for a start without ZooKeeper; "": nothing does.
	File string

	spacing, reread time.Duration // for tests
}

// The reads of a list.
const (
	spacing    = 500 * time.Millisecond // at least, between two: a storm of changes is read a few times
	reread     = time.Minute            // mean, should a watch ever be missed
	maxMembers = 32
)

// Members follows which members a Marathon has, and which of them leads, by the candidates of its election. It is safe for concurrent use.
type Members struct {
	cfg     MembersConfig
	client  *Client
	log     logrus.FieldLogger
	metrics *membersMetrics

	mu    sync.Mutex
	known []string // base URLs, the leader's first; never emptied
	err   string   // why the list may be old
}

// NewMembers returns what follows the members, with those that File has. It sends nothing before Run.
func NewMembers(cfg MembersConfig) (*Members, error) {
	cfg.Scheme, cfg.spacing, cfg.reread = cmp.Or(cfg.Scheme, "http"), cmp.Or(cfg.spacing, spacing), cmp.Or(cfg.reread, reread)
	if cfg.Scheme != "http" && cfg.Scheme != "https" {
		return nil, fmt.Errorf("%q is no scheme of Marathon's members: want http or https", cfg.Scheme)
	}
	client, err := Dial(cfg.Config)
	if err != nil {
		return nil, err
	}
	m := &Members{cfg: cfg, client: client, log: discovery.LoggerOr(cfg.Log), err: "not asked yet"}
	m.metrics = newMembersMetrics(m)
	if err := m.load(); err != nil {
		m.log.WithError(err).WithField("file", cfg.File).Warn("the stored list of Marathon's members can't be used")
	}
	return m, nil
}

// Known returns the base URLs of the members that were known last, the leader's first; none where there never was a list.
func (m *Members) Known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.known)
}

// Trouble says why the list may be old, "" while it is followed.
func (m *Members) Trouble() string {
	if s := m.client.Status(); s.Err != "" {
		return "ZooKeeper: " + s.Err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != "" {
		return "ZooKeeper: " + m.err
	}
	return ""
}

// Run follows the members until ctx ends, and calls set with each new list: base URLs, the leader's first, never none. What is not known,
// or gone from ZooKeeper altogether, changes nothing.
func (m *Members) Run(ctx context.Context, set func(urls []string)) {
	m.client.Run(ctx, func(ctx context.Context, conn *zk.Conn) { m.follow(ctx, conn, set) })
}

// memberAddress returns what a candidate says of itself, if that is host:port.
func memberAddress(text string) (string, error) {
	if _, _, err := net.SplitHostPort(text); err != nil {
		return "", err
	}
	return address(text)
}

// election is one directory of candidates.
type election struct {
	path       string
	candidates *regexp.Regexp // names, with the sequence number as a group; what else is there is none
	names      []string       // of candidates, the leader first
	changed    <-chan zk.Event
}

// elections returns the directories that Marathon has had, the later one first: from 1.3 on by Curator, which leaves in the older directory a
// member without an address, that those of before see and wait for.
func elections(path string) []*election {
	if path == "/" {
		path = ""
	}
	return []*election{
		{path: path + "/leader-curator", candidates: regexp.MustCompile(`-latch-(\d{1,10})$`)},
		{path: path + "/leader", candidates: regexp.MustCompile(`^member_(\d{10})$`)},
	}
}

// follow reads the elections of one session, and again when they change.
func (m *Members) follow(ctx context.Context, conn *zk.Conn, set func([]string)) {
	all, addresses := elections(m.cfg.Path), map[string]string{}
	for {
		began := time.Now()
		list, err := m.read(conn, all, addresses)
		if ctx.Err() != nil {
			return
		}
		m.took(list, err, set)
		again := m.cfg.reread/2 + rand.N(m.cfg.reread)
		if err != nil { // a watch may be missing
			again = m.cfg.spacing + rand.N(3*m.cfg.spacing)
		}
		if !m.wait(ctx, all, time.Until(began.Add(m.cfg.spacing)), again) {
			return
		}
	}
}

// wait returns once an election has changed, or again has passed, but not before least. It reports false when ctx has ended.
func (m *Members) wait(ctx context.Context, all []*election, least, again time.Duration) bool {
	rested, due := time.NewTimer(least), time.NewTimer(again)
	defer rested.Stop()
	defer due.Stop()
	select {
	case <-all[0].changed:
		all[0].changed = nil
	case <-all[1].changed:
		all[1].changed = nil
	case <-due.C:
	case <-ctx.Done():
		return false
	}
	select {
	case <-rested.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// read returns the members' host:port, the leader's first. It sets the watches that are not set.
func (m *Members) read(conn *zk.Conn, all []*election, addresses map[string]string) ([]string, error) {
	m.metrics.reads.Inc()
	var list []string
	seen := map[string]bool{}
	for _, e := range all {
		if err := e.read(conn); err != nil {
			return nil, fmt.Errorf("reading %s: %w", e.path, err)
		}
		for _, name := range e.names {
			path := e.path + "/" + name
			seen[path] = true
			if _, ok := addresses[path]; !ok { // a candidate's address never changes
				data, _, err := conn.Get(path)
				if errors.Is(err, zk.ErrNoNode) {
					continue // it has just gone, and its directory says so again
				}
				if err != nil {
					return nil, fmt.Errorf("reading %s: %w", path, err)
				}
				host, err := memberAddress(string(data))
				if err != nil {
					m.log.WithField("path", path).Warn("a candidate of Marathon's election has no address of the form host:port; it is left out")
				}
				addresses[path] = host
			}
			if host := addresses[path]; host != "" && !slices.Contains(list, host) && len(list) < maxMembers {
				list = append(list, host)
			}
		}
	}
	for path := range addresses {
		if !seen[path] {
			delete(addresses, path)
		}
	}
	return list, nil
}

// read reads who stands for election, and watches the directory unless it does so already.
func (e *election) read(conn *zk.Conn) error {
	children, err := e.children(conn)
	if errors.Is(err, zk.ErrNoNode) {
		var there bool
		there, err = e.exists(conn)
		if err == nil && there { // made in between
			children, err = e.children(conn)
		}
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	e.names = e.inOrder(children)
	return nil
}

func (e *election) children(conn *zk.Conn) (names []string, err error) {
	if e.changed != nil {
		names, _, err = conn.Children(e.path)
		return names, err
	}
	names, _, changed, err := conn.ChildrenW(e.path)
	if err == nil {
		e.changed = changed
	}
	return names, err
}

func (e *election) exists(conn *zk.Conn) (there bool, err error) {
	if e.changed != nil {
		there, _, err = conn.Exists(e.path)
		return there, err
	}
	there, _, changed, err := conn.ExistsW(e.path)
	if err == nil && !there {
		e.changed = changed
	}
	return there, err
}

// inOrder returns the candidates, the one with the lowest sequence number first: it leads.
func (e *election) inOrder(names []string) (candidates []string) {
	number := func(name string) int {
		n, _ := strconv.Atoi(e.candidates.FindStringSubmatch(name)[1])
		return n
	}
	for _, name := range names {
		if e.candidates.MatchString(name) {
			candidates = append(candidates, name)
		}
	}
	slices.SortFunc(candidates, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return candidates
}

// took takes a list over, if it says something. Nobody is told what they know.
func (m *Members) took(list []string, err error, set func([]string)) {
	urls := make([]string, 0, len(list))
	for _, host := range list {
		urls = append(urls, m.cfg.Scheme+"://"+host)
	}
	m.mu.Lock()
	before := m.known
	switch {
	case err != nil:
		m.err = err.Error()
	case len(urls) == 0:
		m.err = "nobody stands for election below " + m.cfg.Path
	default:
		m.err, m.known = "", urls
	}
	trouble := m.err
	m.mu.Unlock()
	if trouble != "" {
		m.metrics.refused.Inc()
		m.log.WithField("members", before).Warn("Marathon's members can't be had: " + trouble + "; the last known stand")
		return
	}
	if slices.Equal(before, urls) {
		return
	}
	m.metrics.changes.Inc()
	m.log.WithFields(logrus.Fields{"leader": urls[0], "members": urls}).Info("Marathon's members are others")
	set(urls)
	if err := m.store(urls); err != nil {
		m.log.WithError(err).Warn("the list of Marathon's members can't be stored; a start without ZooKeeper will know an older one")
	}
}

// stored is what File holds.
type stored struct {
	Path    string   `json:"path"` // and the servers, of which the list is
	Servers []string `json:"servers"`
	Members []string `json:"members"` // base URLs, the leader's first
}

func (m *Members) load() error {
	if m.cfg.File == "" {
		return nil
	}
	b, err := os.ReadFile(m.cfg.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("reading %s: %w", m.cfg.File, err)
	}
	if s.Path == m.cfg.Path && slices.Equal(s.Servers, m.cfg.Servers) { // else it is of another Marathon
		m.known = s.Members
	}
	return nil
}

// store replaces the file at once and durably.
func (m *Members) store(urls []string) error {
	if m.cfg.File == "" {
		return nil
	}
	b, err := json.Marshal(stored{m.cfg.Path, m.cfg.Servers, urls})
	if err != nil {
		return err
	}
	dir := filepath.Dir(m.cfg.File)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".members-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if _, err := tmp.Write(b); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), m.cfg.File)
}
