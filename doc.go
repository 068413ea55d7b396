// Package signalbox holds the plain values that every room of the program shares: what runs where, under which names, and
// what is wrong with it. Values are sorted, immutable once handed over, and have a text form that is diffed into the log.
package signalbox
