package statsd

import (
	"math"
	"strings"

	"github.com/prometheus/common/model"
)

// Why a value or a line is not taken, beside the reasons of statsd_exporter's parser.
const (
	reasonTooLong  = "too_long"
	reasonType     = "type_conflict"
	reasonReserved = "name_reserved"
	reasonName     = "invalid_name"
	reasonLabel    = "invalid_label"
	reasonNegative = "negative_counter"
	reasonFinite   = "not_finite"
	reasonRate     = "invalid_sample_factor"
	reasonWeight   = "sample_factor_too_small"
	reasonEvent    = "dogstatsd_event"
	reasonCheck    = "dogstatsd_service_check"
	reasonTag      = "malformed_tag"
	reasonFailed   = "parser_failed"

	overflowSeries = "series"
	overflowSet    = "set_values"
)

// badReasons are all reasons of signalbox_statsd_bad_total.
var badReasons = []string{
	"malformed_line", "mixed_tagging_styles", "not_enough_parts_after_colon", "invalid_extended_aggregate_type", "malformed_component",
	"malformed_value", "malformed_container_id", "illegal_event",
	reasonTooLong, reasonType, reasonReserved, reasonName, reasonLabel, reasonNegative, reasonFinite, reasonRate, reasonWeight, reasonEvent,
	reasonCheck, reasonTag, reasonFailed,
}

// reserved reports whether a name is that of a metric of ours, of the Go runtime's, or one that Prometheus makes itself.
func reserved(name string) bool {
	for _, prefix := range []string{"signalbox", "go", "process", "promhttp", "scrape"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && (rest == "" || rest[0] == '_') {
			return true
		}
	}
	return name == "up" || name == "ALERTS" || name == "ALERTS_FOR_STATE"
}

// check returns why no series can take an update; "" if one can.
func check(u update) string {
	switch {
	case !model.LegacyValidation.IsValidMetricName(u.name) || strings.Contains(u.name, ":"):
		return reasonName
	case reserved(u.name):
		return reasonReserved
	case math.IsNaN(u.value) || math.IsInf(u.value, 0):
		return reasonFinite
	case u.kind == kindCounter && u.value < 0:
		return reasonNegative
	}
	for name := range u.labels {
		if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__") ||
			u.kind == kindHistogram && name == "le" || u.kind == kindSummary && name == "quantile" {
			return reasonLabel
		}
	}
	return ""
}
