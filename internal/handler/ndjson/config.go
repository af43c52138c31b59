package ndjson

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"callbackd/internal/handler"
)

// Type is the handler type "ndjson".
func Type() handler.Type {
	return handler.Type{Name: "ndjson", Config: func() handler.Config { return &Config{} }}
}

// Config of an ndjson handler.
type Config struct {
	// Path is the file to append to. It is created if it is not there; its folder has to be.
	Path string `yaml:"path"`
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
	switch {
	case c.Path == "":
		return []error{errors.New("path: the file to append to is missing")}
	case !filepath.IsAbs(c.Path):
		return []error{fmt.Errorf("path: %q must be absolute, for the working directory of a service is nobody's choice", c.Path)}
	}
	return nil
}

// Open implements [handler.Config].
func (c *Config) Open(context.Context, handler.Env) (handler.Handler, error) {
	f, err := open(c.Path)
	if err != nil {
		return nil, err
	}
	return &file{path: c.Path, f: f}, nil
}
