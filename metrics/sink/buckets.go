package sink

import (
	"math"
	"time"

	"signalbox/metrics"
)

// middle returns the time that stands for those of a histogram's bucket, at most 1.1 % off.
func middle(bucket int) time.Duration {
	return time.Duration(math.Exp2((float64(bucket)-0.5)/(1<<metrics.Schema)) * float64(time.Second))
}

// oneIn returns the largest number up to 1/n of which n is what a division of 1 by it gives, less its fraction.
func oneIn(n uint64) float64 {
	x := 1 / float64(n)
	for uint64(1/x) < n {
		x = math.Nextafter(x, 0)
	}
	return x
}
