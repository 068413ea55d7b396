package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
)

// Given knows the files that an operator gives for services to ask for by name: lists of users and error pages. A content is taken
// when two looks in a row have found it, for one may find half of it; what is gone or can't be used keeps its last good content. It is
// safe for concurrent use; Read is called by one goroutine at a time.
type Given struct {
	log     logrus.FieldLogger
	changed chan struct{}

	mu       sync.Mutex
	users    folder[[]haproxy.User]
	pages    folder[[]byte]
	problems []signalbox.Problem
}

// folder is a directory of such files.
type folder[T any] struct {
	dir   string // "" for none
	flag  string // that names it
	what  string // one of its files, for people
	parse func([]byte) (T, error)
	good  map[string]T      // by name; replaced, never changed: options have it
	seen  map[string][]byte // at the last look
}

// NewGiven returns what two directories, "" for none, have given with options o: their content now is that of o.
func NewGiven(userLists, errorPages string, o *haproxy.Options, log logrus.FieldLogger) *Given {
	return &Given{
		log: loggerOr(log), changed: make(chan struct{}, 1),
		users: folder[[]haproxy.User]{dir: userLists, flag: "user-lists", what: "list of users", parse: haproxy.ParseUserList, good: o.UserLists},
		pages: folder[[]byte]{dir: errorPages, flag: "error-pages", what: "error page", parse: haproxy.ParseErrorPage, good: o.ErrorPages},
	}
}

// Changed returns a channel that gets a value when Put puts something else into options than before.
func (g *Given) Changed() <-chan struct{} { return g.changed }

// Put puts what is given now into options.
func (g *Given) Put(o *haproxy.Options) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o.UserLists, o.ErrorPages = g.users.good, g.pages.good
}

// Run reads the directories again and again until ctx ends.
func (g *Given) Run(ctx context.Context, every time.Duration) error {
	again(ctx, every, g.Read)
	return nil
}

// again calls f again and again, an interval apart, until ctx ends.
func again(ctx context.Context, every time.Duration, f func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// Read looks at every file.
func (g *Given) Read() {
	g.mu.Lock()
	defer g.mu.Unlock()
	users, problems := g.users.read()
	pages, more := g.pages.read()
	problems = append(problems, more...)
	slices.SortFunc(problems, signalbox.Problem.Compare)
	for _, p := range problems {
		if !slices.Contains(g.problems, p) {
			g.log.WithField("file", p.Value).Warn(p.Message)
		}
	}
	g.problems = problems
	for _, name := range users {
		g.log.WithField("list", name).Info("a list of users has changed")
	}
	for _, name := range pages {
		g.log.WithField("page", name).Info("an error page has changed")
	}
	if len(users)+len(pages) > 0 {
		select {
		case g.changed <- struct{}{}:
		default:
		}
	}
}

// Problems returns what is wrong with the files, sorted.
func (g *Given) Problems() []signalbox.Problem {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.problems)
}

// read looks at every file of the directory, and returns the names of those that have a new content.
func (f *folder[T]) read() (changed []string, problems []signalbox.Problem) {
	if f.dir == "" {
		return nil, nil
	}
	good, seen := maps.Clone(f.good), map[string][]byte{}
	if good == nil {
		good = map[string]T{}
	}
	known := map[string]bool{} // whose file is there, good or not
	err := haproxy.EachFile(f.dir, func(name string, data []byte, err error) error {
		known[name] = true
		var content T
		if err == nil {
			content, err = f.parse(data)
		}
		if err != nil {
			problems = append(problems, f.problem(name, err))
			return nil
		}
		seen[name] = data
		last, twice := f.seen[name]
		if old, there := good[name]; (!there || !reflect.DeepEqual(old, content)) && twice && bytes.Equal(last, data) {
			good[name], changed = content, append(changed, name)
		}
		return nil
	})
	switch {
	case err != nil:
		problems = append(problems, f.problem("", err)) // the directory itself: all of it stays
	default:
		for _, name := range slices.Sorted(maps.Keys(good)) {
			if !known[name] {
				problems = append(problems, f.problem(name, errors.New("its file is gone")))
			}
		}
	}
	f.seen = seen
	if len(changed) > 0 {
		f.good = good
	}
	return changed, problems
}

func (f *folder[T]) problem(name string, why error) signalbox.Problem {
	action := "it counts as not given"
	if _, there := f.good[name]; there || name == "" {
		action = "the last good content stays"
	}
	return signalbox.Problem{
		Code: "SB237", Severity: signalbox.SeverityError, Label: f.flag, Value: cut(filepath.Join(f.dir, name), 200),
		Message: fmt.Sprintf("the %s can't be used: %v", f.what, why), Action: action,
	}
}
