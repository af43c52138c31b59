package doctor

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// process is the one that is examined: the callbackd that runs, or this one, which has the limits of one that is started from here.
func (p *patient) process() (pid, whose string) {
	if p.status != nil {
		return strconv.Itoa(p.status.PID), "the callbackd that runs"
	}
	return "self", "a program started from here"
}

// spare is what callbackd has open beside its listeners' connections and its handlers: files, the admin listener's connections.
const spare = 256

// openFiles: a connection is a file.
func (p *patient) openFiles(context.Context) []Finding {
	pid, whose := p.process()
	text, err := fs.ReadFile(p.Kernel, path.Join("proc", pid, "limits"))
	if err != nil {
		return []Finding{{Level: Skipped, Found: err.Error()}}
	}
	limit, err := mostFiles(text)
	if err != nil {
		return []Finding{{Level: Skipped, Found: err.Error()}}
	}
	listeners := len(p.addresses()) - 1 // without the admin listener
	need := int64(listeners)*int64(p.c.Limits.Connections) + spare
	for _, h := range p.c.Handlers {
		need += int64(h.Delivery.Concurrency)
	}
	f := Finding{Level: OK, Found: fmt.Sprintf("%s may open %d files, and needs %d at most", whose, limit, need)}
	if limit < need {
		f.Level = Warn
		f.Found = fmt.Sprintf("%s may open %d files, and %d listeners with %d connections each need %d", whose, limit, listeners, p.c.Limits.Connections, need)
		f.Advice = fmt.Sprintf("write LimitNOFILE=%d into the systemd unit, or `ulimit -n %d` before the start; or limits.connections: %d", need, need,
			max(1, (limit-spare)/int64(max(listeners, 1))))
	}
	return []Finding{f}
}

// mostFiles reads the hard limit from /proc/PID/limits, to which Go raises the other when a program starts.
func mostFiles(limits []byte) (int64, error) {
	for line := range bytes.Lines(limits) {
		if after, ok := bytes.CutPrefix(line, []byte("Max open files")); ok {
			if fields := bytes.Fields(after); len(fields) >= 2 {
				if string(fields[1]) == "unlimited" {
					return math.MaxInt64, nil
				}
				return strconv.ParseInt(string(fields[1]), 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("the kernel does not tell the limit of open files")
}

// memory: what messages being received may take, against what the control group lets the process have.
func (p *patient) memory(context.Context) []Finding {
	pid, whose := p.process()
	limit, from := p.memoryLimit(pid)
	if limit == 0 {
		return []Finding{{Level: Skipped, Found: "how much memory there is cannot be told"}}
	}
	inFlight := int64(p.c.Limits.InFlight)
	most := min(4*inFlight, limit/10*9) // near which the garbage collector keeps callbackd
	f := Finding{Level: OK, Found: fmt.Sprintf("%s may have %s, by %s, and keeps to %s under full load", whose, size(limit), from, size(most))}
	if 2*inFlight > limit {
		f.Level = Warn
		f.Found = fmt.Sprintf("%s may have %s, by %s, and limits.in_flight is %s, more than half of it: the kernel may end it under load", whose, size(limit), from, size(inFlight))
		f.Advice = fmt.Sprintf("give it %s, or write limits.in_flight: %s", size(4*inFlight), key(limit/4))
		if limit < inFlight {
			f.Level = Fail
		}
	}
	return []Finding{f}
}

// memoryLimit is the least that the control groups of the process, or the machine, let it have; 0 if nothing is told.
func (p *patient) memoryLimit(pid string) (limit int64, from string) {
	least := func(n int64, whose string) {
		if n > 0 && (limit == 0 || n < limit) {
			limit, from = n, whose
		}
	}
	least(p.machineMemory(), "its machine")
	groups, _ := fs.ReadFile(p.Kernel, path.Join("proc", pid, "cgroup")) // none, then
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		tree, file := "sys/fs/cgroup", "memory.max"
		if controllers == "memory" {
			tree, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if controllers != "" {
			continue
		}
		for {
			text, err := fs.ReadFile(p.Kernel, path.Join(tree, group, file))
			if n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && parseErr == nil {
				least(n, "its control group")
			}
			if group == "/" || group == "." || group == "" {
				break
			}
			group = path.Dir(group)
		}
	}
	return limit, from
}

func (p *patient) machineMemory() int64 {
	text, _ := fs.ReadFile(p.Kernel, "proc/meminfo") // none, then
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
