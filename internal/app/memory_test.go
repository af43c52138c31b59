package app

import (
	"math"
	"runtime/debug"
	"testing"
)

// TestTheEnvironmentDecidesOnTheCollector where it says anything, and else callbackd does. It is not parallel: the settings are the process's.
func TestTheEnvironmentDecidesOnTheCollector(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	t.Setenv("GOGC", "100")
	t.Setenv("GOMEMLIMIT", "off")
	tuneMemory(1 << 30)
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != 100 || l != math.MaxInt64 {
		t.Errorf("GOGC %d and limit %d although the environment sets them", p, l)
	}
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	tuneMemory(1 << 30)
	if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != 400 || l != 4<<30 {
		t.Errorf("GOGC %d and limit %d, want 400 and four times the budget", p, l)
	}
}
