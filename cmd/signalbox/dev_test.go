package main

import "testing"

// Two clusters that start at the same time get ports of their own, though neither HAProxy listens yet.
func TestFreeAddressIsReserved(t *testing.T) {
	first, err := freeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	if reserve("@signalbox-"+first) == nil {
		t.Errorf("%s could be taken a second time", first)
	}
}
