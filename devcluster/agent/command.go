package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// commandLimit is for how long a check's command may run.
func commandLimit(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(0, time.Until(deadline))
	}
	return 20 * time.Second // Marathon's own default
}

// verdict waits for what a check's command says: nil means alive. When nobody waits any longer it calls forget; when gone is closed
// nobody can answer.
func verdict(ctx context.Context, answer <-chan string, gone <-chan struct{}, forget func()) error {
	select {
	case message := <-answer:
		if message != "" {
			return errors.New(message)
		}
		return nil
	case <-ctx.Done():
		forget()
		return fmt.Errorf("running the check's command: %w", context.Cause(ctx))
	case <-gone:
		return errClosed
	}
}
