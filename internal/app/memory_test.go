package app

import (
	"errors"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"callbackd/internal/config"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestTheEnvironmentDecidesOnTheCollector where it says anything, and else callbackd does, within what the control group allows. It is not
// parallel: the settings are the process's.
func TestTheEnvironmentDecidesOnTheCollector(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	unreadable := func() (uint64, error) { return 0, errors.New("no such file") }
	for _, tt := range []struct {
		name, gogc, gomemlimit string
		cgroup                 memlimit.Provider
		percent                int
		limit                  int64
		fails                  bool
	}{
		{"the environment", "100", "off", memlimit.Limit(1 << 30), 100, math.MaxInt64, false},
		{"no limit", "", "", none, GCPercent, 4 << 30, false},
		{"a large one", "", "", memlimit.Limit(64 << 30), GCPercent, 4 << 30, false},
		{"a small one", "", "", memlimit.Limit(1000 << 20), GCPercent, 900 << 20, false},
		{"one that cannot be told", "", "", unreadable, GCPercent, 4 << 30, true},
	} {
		t.Setenv("GOGC", tt.gogc)
		t.Setenv("GOMEMLIMIT", tt.gomemlimit)
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
		m, err := tuneMemory(1<<30, tt.cgroup)
		if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != tt.percent || l != tt.limit || m.limit != l {
			t.Errorf("%s: GOGC %d and limit %d, told as %d; want %d and %d", tt.name, p, l, m.limit, tt.percent, tt.limit)
		}
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestLimitsThatAreTooLowAreToldAtStart, with what to do.
func TestLimitsThatAreTooLowAreToldAtStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cgroup, inFlight int64
		connections      int
		want             string
	}{
		{8 << 30, 256 << 20, 64, ""},
		{0, 256 << 20, 64, ""},
		{256 << 20, 256 << 20, 64, "limits.in_flight is more than half"},
		{8 << 30, 256 << 20, 1 << 40, "fewer files may be open"},
	} {
		core, logged := observer.New(zap.InfoLevel)
		c := config.Default()
		c.Limits.InFlight, c.Limits.Connections = config.Bytes(tt.inFlight), tt.connections
		(&App{c: c, log: zap.New(core)}).tellLimits(memory{1 << 30, tt.cgroup}, nil, 1)
		lines := logged.All()
		if len(lines) == 0 || lines[0].Message != "limits" || lines[0].ContextMap()["cgroup_memory_bytes"] != tt.cgroup || lines[0].ContextMap()["open_files"] == uint64(0) {
			t.Errorf("told is %v", lines)
		}
		if warned := logged.FilterLevelExact(zap.WarnLevel).All(); (tt.want != "") != (len(warned) == 1) || tt.want != "" && !strings.Contains(warned[0].Message, tt.want) {
			t.Errorf("with %+v it warns of %v", tt, warned)
		}
	}
}
