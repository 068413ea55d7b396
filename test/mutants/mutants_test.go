package main

import (
	"path/filepath"
	"testing"
)

// Every safeguard in the list is in the tree as the list takes it away.
func TestTheListFollowsTheTree(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if _, _, err := m.texts(root); err != nil {
			t.Error(err)
		}
		if seen[m.name] || len(m.tests) == 0 {
			t.Errorf("%s: it is there twice, or no test is asked", m.name)
		}
		seen[m.name] = true
	}
}
