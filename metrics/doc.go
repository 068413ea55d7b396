// Package metrics turns HAProxy's access log into totals: the log format and its parser, the receiver of the lines, the
// aggregator with its mergeable histograms, and the account of what was lost. Every line is counted or counted as lost.
package metrics
