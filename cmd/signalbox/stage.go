package main

import (
	"context"
	"errors"
	"fmt"
)

// part is something that runs on until it is told to end, longer than what it serves.
type part struct {
	stop context.CancelFunc
	done chan error
	what string
}

// stage starts a part that does not end with ctx, but by end.
func stage(ctx context.Context, run func(context.Context) error, what string) *part {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{stop: stop, done: make(chan error, 1), what: what}
	go func() { p.done <- run(ctx) }()
	return p
}

// end ends the part, waits, and returns what went wrong. A part that never began has nothing to say.
func (p *part) end() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	return nil
}
