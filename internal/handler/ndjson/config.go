package ndjson

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"callbackd/internal/handler"
)

// Type is the handler type "ndjson".
func Type() handler.Type {
	return handler.Type{Name: "ndjson", Config: func() handler.Config { return &Config{Fsync: Always, FsyncInterval: time.Second} }}
}

// Config of an ndjson handler.
type Config struct {
	// Path is the file to append to. It is created if it is not there; its folder has to be.
	Path string `yaml:"path"`
	// Fsync says when lines are forced to the disk.
	Fsync Fsync `yaml:"fsync"`
	// FsyncInterval is the time between two syncs, with Interval.
	FsyncInterval time.Duration `yaml:"fsync_interval"`
	// Rotate says when the file is renamed and a new one begun.
	Rotate Rotate `yaml:"rotate"`
	// Keep says which renamed files are kept.
	Keep Keep `yaml:"keep"`
	// Gzip has renamed files compressed.
	Gzip bool `yaml:"gzip"`
}

// Fsync says when lines are forced to the disk.
type Fsync string

// The words of fsync.
const (
	Always   Fsync = "always"   // before their deliveries are done
	Interval Fsync = "interval" // now and then
	Never    Fsync = "never"    // when the system does it
)

// Rotate says when the file is renamed; 0 is never.
type Rotate struct {
	// Size is what a file does not grow beyond.
	Size handler.Bytes `yaml:"size"`
	// Age divides time, from midnight UTC: a file has the lines of one such part.
	Age time.Duration `yaml:"age"`
}

// Keep says which renamed files are kept: those that no bound rules out; 0 is no bound.
type Keep struct {
	Files int           `yaml:"files"`
	Age   time.Duration `yaml:"age"`
	Size  handler.Bytes `yaml:"size"` // of all of them
}

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string { return map[string]*string{"path": &c.Path} }

// Sole implements [handler.Sole].
func (c *Config) Sole() (key, value string) {
	if c.Path != "" {
		value = filepath.Clean(c.Path)
	}
	return "path", value
}

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	const smallest, shortest, longest = 64 << 10, time.Minute, time.Hour
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case c.Path == "":
		bad("path: the file to append to is missing")
	case !filepath.IsAbs(c.Path):
		bad("path: %q must be absolute, for the working directory of a service is nobody's choice", c.Path)
	}
	if c.Fsync != Always && c.Fsync != Interval && c.Fsync != Never {
		bad("fsync: %q is none of %s, %s, %s", c.Fsync, Always, Interval, Never)
	}
	if c.FsyncInterval <= 0 || c.FsyncInterval > longest {
		bad("fsync_interval: must be more than nothing and at most %s; 1s is the default", longest)
	}
	if c.Rotate.Size != 0 && c.Rotate.Size < smallest {
		bad("rotate.size: %s is less than 64KiB: every few lines would have a file of their own", c.Rotate.Size)
	}
	if c.Rotate.Age != 0 && c.Rotate.Age < shortest {
		bad("rotate.age: must be at least %s, or 0s for never", shortest)
	}
	if c.Keep.Files < 0 {
		bad("keep.files: must not be negative; 0 keeps all")
	}
	if c.Rotate == (Rotate{}) && (c.Keep != (Keep{}) || c.Gzip) {
		bad("rotate: missing: only files that callbackd has renamed itself are compressed and removed; set size or age")
	}
	return problems
}

// Open implements [handler.Config].
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	h := &file{Config: *c, log: env.Log, Readiness: handler.Readiness{Log: env.Log}, rotated: make(chan struct{}, 1), failing: make(map[step]error)}
	h.Fsync = cmp.Or(h.Fsync, Always)
	if err := h.reopen(); err != nil {
		return nil, err
	}
	m, err := newMetrics(env)
	if err != nil {
		_ = h.f.Close() // nothing was written
		return nil, err
	}
	h.metrics = m
	h.tend()
	return h, nil
}
