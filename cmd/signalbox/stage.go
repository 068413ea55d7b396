package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// part is something that runs on until it is told to end, longer than what it serves. The zero value never began.
type part struct {
	stop  context.CancelFunc
	ended chan struct{} // closed once err stands
	err   error
	what  string
}

// stage starts a part that does not end with ctx, but by end.
func stage(ctx context.Context, run func(context.Context) error, what string) *part {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{stop: stop, ended: make(chan struct{}), what: what}
	go func() {
		defer close(p.ended)
		p.err = run(ctx)
	}()
	return p
}

// guard waits until ctx ends, or returns what ended the part before.
func (p *part) guard(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.ended:
		return fmt.Errorf("%s has ended: %w", p.what, cmp.Or(p.err, errors.New("without a reason")))
	}
}

// end ends the part, waits, and returns what went wrong.
func (p *part) end() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	<-p.ended
	if p.err != nil && !errors.Is(p.err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.what, p.err)
	}
	return nil
}
