package app

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// cgroupShare is how much of what the control group allows the garbage collector is told of. SQLite's pages and the kernel's buffers are in
// the rest.
const cgroupShare = 0.9

// memory is what tuneMemory has found and set; 0 is no limit.
type memory struct{ limit, cgroup int64 }

// GCPercent is by how much the heap grows between two runs of the garbage collector, where GOGC does not say. Of a heap that is next to
// empty, as it is here most of the time, that is little, and the collector would run all the time: so the heap holds Ballast, of which it
// never touches a byte and which therefore is no memory.
const (
	GCPercent = 400
	Ballast   = 8 << 20
)

// tuneMemory lets the garbage collector run less often. Next to nothing lives long here, so that by Go's default it runs all the time
// under load, at a fifth of the acks. What that costs in memory is bounded: near four times what messages being received may
// take, or near what the control group allows, whichever is less, the collector works as often as it must. GOGC and GOMEMLIMIT, where they
// are set, are obeyed instead.
func tuneMemory(inFlight int64, cgroup memlimit.Provider) (m memory, err error) {
	const times = 4
	allowed, err := cgroup()
	if err == nil {
		m.cgroup = int64(allowed)
	} else if errors.Is(err, memlimit.ErrNoLimit) || errors.Is(err, memlimit.ErrNoCgroup) || errors.Is(err, memlimit.ErrCgroupsNotSupported) {
		err = nil
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(GCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		m.limit = times * inFlight
		if m.cgroup > 0 {
			m.limit = min(m.limit, int64(cgroupShare*float64(m.cgroup)))
		}
		debug.SetMemoryLimit(m.limit)
	} else {
		m.limit = debug.SetMemoryLimit(-1)
	}
	return m, err
}

// spareFiles is how many files a receiver has open besides its connections: the inbox, handlers, listeners.
const spareFiles = 128

// tellLimits logs what the machine grants, and where that is less than what the configuration counts on.
func (a *App) tellLimits(m memory, cgroupErr error, listeners int) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		a.log.Warn("cannot tell how many files may be open", zap.Error(err))
	}
	a.log.Info("limits", zap.Int64("memory_bytes", m.limit), zap.Int64("cgroup_memory_bytes", m.cgroup), zap.Int("processors", runtime.GOMAXPROCS(0)),
		zap.Uint64("open_files", files.Cur))
	if cgroupErr != nil {
		a.log.Warn("cannot tell how much memory the control group allows: set GOMEMLIMIT where it is little", zap.Error(cgroupErr))
	}
	if inFlight := int64(a.c.Limits.InFlight); m.cgroup > 0 && 2*inFlight > m.cgroup {
		a.log.Warn("limits.in_flight is more than half of the memory that the control group allows: lower it, or the kernel may end this process "+
			"under load", zap.Int64("in_flight_bytes", inFlight), zap.Int64("cgroup_memory_bytes", m.cgroup))
	}
	if connections := listeners * a.c.Limits.Connections; files.Cur > 0 && files.Cur < uint64(connections+spareFiles) {
		a.log.Warn("fewer files may be open than there may be connections: when they are used up, new connections wait; raise it (ulimit -n, LimitNOFILE=) "+
			"or lower limits.connections", zap.Uint64("open_files", files.Cur), zap.Int("connections", connections))
	}
}
