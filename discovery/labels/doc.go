// Package labels is the label vocabulary: it turns what people write beside an app into typed routes, and what is wrong with it
// into problems. It is pure. One table holds every label; each dialect that an operator may switch on has a file of its own.
package labels
