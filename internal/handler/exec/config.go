package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"callbackd/internal/handler"
)

// Type is the handler type "exec".
func Type() handler.Type {
	return handler.Type{Name: "exec", Config: func() handler.Config { return &Config{Directory: "/", Grace: 5 * time.Second} }}
}

// Config of an exec handler.
type Config struct {
	// Command is the program and its arguments. A program without a slash is looked up in PATH.
	Command []string `yaml:"command"`
	// Directory is the working directory.
	Directory string `yaml:"directory"`
	// Environment names the variables of callbackd's own environment that the program gets, beside PATH.
	Environment []string `yaml:"environment"`
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration `yaml:"grace"`
	// LogOutput has the first line of what the program prints written to the log, at debug.
	LogOutput bool `yaml:"log_output"`
}

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string {
	paths := map[string]*string{"directory": &c.Directory}
	if len(c.Command) > 0 && strings.Contains(c.Command[0], "/") {
		paths["command"] = &c.Command[0]
	}
	return paths
}

// mostGrace keeps what is being stopped from being called stuck.
const mostGrace = 8 * time.Second

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case len(c.Command) == 0:
		bad("command: missing: a list of the program and its arguments, such as [/usr/local/bin/on-usage, --quiet]")
	case c.Command[0] == "":
		bad("command: the first of the list is the program, and is empty")
	case strings.Contains(c.Command[0], "/") && !filepath.IsAbs(c.Command[0]):
		bad("command: %q must be absolute, or a name alone, which is looked up in PATH", c.Command[0])
	}
	if !filepath.IsAbs(c.Directory) {
		bad("directory: %q must be absolute, for the working directory of a service is nobody's choice", c.Directory)
	}
	name := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	for i, variable := range c.Environment {
		shown, _, assigned := strings.Cut(variable, "=") // what stands behind may be a secret
		switch {
		case assigned:
			bad("environment: name %q alone: the value is the one that callbackd itself has in its environment", shown)
		case !name.MatchString(variable):
			bad("environment: %q is no name of a variable: letters, digits and _, no digit first", shown)
		case strings.HasPrefix(variable, prefix):
			bad("environment: %s: names that begin with %s tell of the delivery and of callbackd itself", shown, prefix)
		case variable == "PATH":
			bad("environment: PATH is passed in any case: take it off the list")
		case slices.Contains(c.Environment[:i], variable):
			bad("environment: %s stands twice", shown)
		}
	}
	if c.Grace <= 0 || c.Grace > mostGrace {
		bad("grace: must be more than nothing and at most %s; 5s is the default", mostGrace)
	}
	return problems
}

// Open implements [handler.Config]. It finds what a run would only find later: no program, no directory, no value of a variable.
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	path, err := find(c.Command[0])
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(c.Directory); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("directory: there is no folder %s that the user callbackd runs as can enter: create it", c.Directory)
	}
	environ, err := c.environ(env)
	if err != nil {
		return nil, err
	}
	if err := keepDescriptors(); err != nil {
		return nil, err
	}
	m, err := newMetrics(env)
	if err != nil {
		return nil, err
	}
	return &program{Config: *c, name: env.Name, path: path, environ: environ, log: env.Log, metrics: m, Readiness: handler.Readiness{Log: env.Log}}, nil
}

// find is the path of a program that can be run.
func find(program string) (string, error) {
	path, err := osexec.LookPath(program)
	hint := ""
	if strings.ContainsAny(program, " \t") {
		hint = "; arguments are further items of the list, and no shell divides the first"
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("command: %s cannot be run by the user that callbackd runs as: make it executable (chmod +x)%s", program, hint)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, osexec.ErrNotFound):
		return "", fmt.Errorf("command: there is no program %s%s", program, hint)
	case err != nil:
		return "", fmt.Errorf("command: %w%s", err, hint)
	}
	return path, nil
}

// defaultPath is what a program finds others by when callbackd has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what every run has of callbackd's environment.
func (c *Config) environ(env handler.Env) ([]string, error) {
	path, ok := env.LookupEnv("PATH")
	if !ok {
		path = defaultPath
	}
	list := []string{"PATH=" + path}
	for _, name := range c.Environment {
		value, ok := env.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("environment: callbackd has no %s in its environment: set it where callbackd is started, and start it again", name)
		}
		list = append(list, name+"="+value)
	}
	return list, nil
}
