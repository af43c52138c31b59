package app

import (
	"os"
	"runtime/debug"
)

// tuneMemory lets the garbage collector run less often. Next to nothing lives long here, so that by Go's default it runs all the time
// under load, at a fifth of the acks. What that costs in memory is bounded: near four times what messages being received may
// take, the collector works as often as it must. GOGC and GOMEMLIMIT, where they are set, are obeyed instead.
func tuneMemory(inFlight int64) {
	const (
		percent = 400
		times   = 4
	)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(times * inFlight)
	}
}
