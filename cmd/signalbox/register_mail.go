package main

import "sync"

// mailbox holds what was told and not written yet.
type mailbox struct {
	mu           sync.Mutex
	items        []any
	wake, urgent chan struct{} // capacity 1
}

func newMailbox() *mailbox {
	return &mailbox{wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
}

// put never waits. What somebody waits for is urgent.
func (m *mailbox) put(item any) {
	m.mu.Lock()
	m.items = append(m.items, item)
	m.mu.Unlock()
	ring := func(bell chan struct{}) {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	ring(m.wake)
	switch item.(type) {
	case holdRecord, chan struct{}:
		ring(m.urgent)
	}
}

func (m *mailbox) take() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}
