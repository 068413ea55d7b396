// Package loadgen sends HTTP requests on a schedule that no answer can delay, and keeps its own exact count of what came of
// them. It shares nothing with the pipeline whose numbers it is there to check.
package loadgen
