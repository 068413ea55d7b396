package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/haproxy"
)

// offlineWait bounds how long render --offline waits for Marathon.
const offlineWait = 30 * time.Second

// renderOffline asks Marathon once and returns what run would have HAProxy do on an empty machine.
func renderOffline(ctx context.Context, s *settings) ([]admin.File, error) {
	c, err := idle(s)
	if err != nil {
		return nil, err
	}
	if err := c.haproxy(s.haproxyDir(), lifetime{}); err != nil {
		return nil, err
	}
	table, err := c.ask(ctx)
	if err != nil {
		return nil, err
	}
	return renderFiles(c.template, haproxy.Build(table, c.options, nil))
}

// askMarathon asks Marathon once what runs.
func askMarathon(ctx context.Context, s *settings) (*signalbox.Table, error) {
	c, err := idle(s)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx)
}

// idle returns a controller that runs nothing and says nothing.
func idle(s *settings) (*controller, error) {
	j, err := newJournal(io.Discard, "error", "json")
	if err != nil {
		return nil, err
	}
	alone := *s
	alone.relaySettings = relaySettings{} // it would be elected, and be gone
	return &controller{settings: &alone, journal: j, transient: true, register: &register{}}, nil
}

// ask asks the sources once.
func (c *controller) ask(ctx context.Context) (*signalbox.Table, error) {
	sources, _, err := c.sources()
	if err != nil {
		return nil, err
	}
	watcher := discovery.NewWatcher(discovery.Config{Sources: sources, FirstWait: offlineWait})
	wait, cancel := context.WithTimeout(ctx, offlineWait)
	defer cancel()
	changes := make(chan *discovery.Change)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { _ = watcher.Run(wait, changes) }) // how it fares stands in its status
	select {
	case change := <-changes:
		for _, state := range watcher.Status() {
			if state.LastGood.IsZero() {
				return nil, unreachable(state.Detail)
			}
		}
		return change.Table, nil
	case <-wait.Done():
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		detail := "no answer"
		if state := watcher.Status(); len(state) > 0 {
			detail = state[0].Detail
		}
		return nil, unreachable(detail)
	}
}

func unreachable(detail string) error {
	return &exitError{code: exitUnreachable, err: errors.New("asking Marathon: " + detail), try: "--marathon with the address of one that runs"}
}
