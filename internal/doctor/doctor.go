// Package doctor examines a callbackd and what it stands on, and says in plain words what is wrong and what to do about it.
//
//	configuration -> running? -> ports, files, memory, disk, clock, store -> handlers
//	                          -> network.allow, certificate files
//	                          -> each public_url, from here: DNS, TCP, TLS, ?wsdl     not with Offline
//	                          -> what the platform holds                              with Platform alone, for it is a log-in
//
// The promise: nothing is changed, and a callbackd that runs is not held up. What it holds is asked over its control socket, the
// inbox is read for a bounded time, the disk is written with a few KiB in a file without a name. Nobody is asked over the network but
// the servers of the configuration.
//
// The limits: it sees what this machine sees. That a URL is reached from here does not say that Verizon reaches it, and the reverse.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/app"
	"callbackd/internal/certificate"
	"callbackd/internal/config"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // not examined, and Found says why
	Warn    Level = "warn"    // it works, or may, and somebody should look
	Fail    Level = "fail"    // callbacks are lost or refused, or will be
)

// Finding is one thing that was examined.
type Finding struct {
	Check   string `json:"check"`
	Subject string `json:"subject,omitempty"` // which port, URL or file
	Level   Level  `json:"level"`
	Found   string `json:"found"`
	Advice  string `json:"advice,omitempty"` // what to do, unless there is nothing

	kind certificate.Kind // of a certificate's flaw
}

// Options of an examination.
type Options struct {
	Config   *config.Config
	Problems config.Problems // the warnings of the configuration, and what of it could not be read here
	Version  string          // of this program, as it tells the platform
	Offline  bool            // nothing over the network
	Platform bool            // log in to the platform, and compare what it holds

	// Roots are the authorities that are trusted; nil: the system's.
	Roots *x509.CertPool
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Kernel has proc and sys, where the kernel tells of processes; nil: the root of this machine.
	Kernel fs.FS
}

// patient is a callbackd under examination.
type patient struct {
	Options
	c *config.Config

	running bool        // a callbackd runs on data_dir
	status  *app.Status // what it says of itself; nil if it cannot be asked
}

// checks are all of them, in the order in which they are told.
var checks = [...]struct {
	name string
	run  func(*patient, context.Context) []Finding
}{
	{"configuration", (*patient).configuration},
	{"running", (*patient).look},
	{"ports", (*patient).ports},
	{"certificate files", (*patient).files},
	{"url", (*patient).urls},
	{"network.allow", (*patient).allowed},
	{"clock", (*patient).clock},
	{"disk", (*patient).disk},
	{"permissions", (*patient).permissions},
	{"store", (*patient).store},
	{"open files", (*patient).openFiles},
	{"memory", (*patient).memory},
	{"handlers", (*patient).handlers},
	{"registrations", (*patient).registrations},
}

// Examine makes all checks, and tells each finding when it is there.
func Examine(ctx context.Context, o Options, tell func(Finding)) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Kernel == nil {
		o.Kernel = os.DirFS("/")
	}
	p := &patient{Options: o, c: o.Config}
	for _, check := range checks {
		for _, f := range merge(check.run(p, ctx)) {
			if f.Check == "" {
				f.Check = check.name
			}
			tell(f)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// merge tells what is the same of several subjects once.
func merge(findings []Finding) []Finding {
	var merged []Finding
	for _, f := range findings {
		i := slices.IndexFunc(merged, func(m Finding) bool {
			return m.Check == f.Check && m.Level == f.Level && m.Found == f.Found && m.Advice == f.Advice
		})
		switch {
		case i < 0:
			merged = append(merged, f)
		case !slices.Contains(strings.Split(merged[i].Subject, ", "), f.Subject):
			merged[i].Subject += ", " + f.Subject
		}
	}
	return merged
}

func (p *patient) configuration(context.Context) []Finding {
	if len(p.Problems) == 0 {
		return []Finding{{Level: OK, Found: "`callbackd check` has nothing to say"}}
	}
	var findings []Finding
	for _, problem := range p.Problems {
		level, advice := Warn, ""
		switch problem.Severity {
		case config.Warning:
		case config.Unread:
			advice = "callbackd does not start without it: if systemd or a container gives it to callbackd alone, all is well; if not, mend it"
		default:
			level = Fail
		}
		findings = append(findings, Finding{Subject: fmt.Sprintf("%s:%d", problem.File, problem.Line), Level: level,
			Found: strings.TrimPrefix(problem.Path+": "+problem.Msg, ": "), Advice: advice})
	}
	return findings
}

// look finds out whether a callbackd runs on the data directory, for the checks after it.
func (p *patient) look(ctx context.Context) []Finding {
	status, err := app.AskStatus(ctx, p.c)
	var answered *admin.Error
	switch {
	case errors.Is(err, app.ErrNotRunning):
		return []Finding{{Level: OK, Found: "no callbackd runs on " + p.c.DataDir}}
	case errors.As(err, &answered) && answered.Code == admin.UnknownOperation:
		p.running = true
		return []Finding{{Level: Warn, Found: "a callbackd of an older version runs, which cannot say what it listens on", Advice: "restart it with this version"}}
	case err != nil:
		p.running = true // something is there
		return []Finding{{Level: Warn, Found: err.Error(), Advice: "run doctor as the user that owns data_dir; if that is so, look into the log of callbackd"}}
	}
	p.running, p.status = true, &status
	found := fmt.Sprintf("callbackd %s runs as process %d", status.Version, status.PID)
	if status.Version != p.Version {
		return append(p.complaints(), Finding{Level: Warn, Found: found + ", and this is " + p.Version, Advice: "restart it, if it is to have been upgraded"})
	}
	return append(p.complaints(), Finding{Level: OK, Found: found})
}

// complaints are what the callbackd that runs has to complain about, but for what other checks look into.
func (p *patient) complaints() []Finding {
	var findings []Finding
	for _, c := range p.status.Complaints {
		level := Warn
		switch {
		case c.Check == "handlers", c.Check == "disk", c.Check == "disk_full":
			continue
		case c.Essential:
			level = Fail
		}
		findings = append(findings, Finding{Level: level, Found: c.Check + ": " + c.Cause})
	}
	if keys := p.status.RestartNeeded; len(keys) > 0 {
		findings = append(findings, Finding{Level: Warn, Found: "the configuration has changed in keys that take a restart: " + strings.Join(keys, ", "),
			Advice: "restart callbackd, or change them back"})
	}
	return findings
}
