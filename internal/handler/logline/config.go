package logline

import (
	"context"

	"callbackd/internal/handler"
)

// Type is the handler type "log".
func Type() handler.Type {
	return handler.Type{Name: "log", Config: func() handler.Config { return &Config{} }, TakesTests: true}
}

// Config of a log handler. It has no settings of its own.
type Config struct{}

// Validate implements [handler.Config].
func (c *Config) Validate() []error { return nil }

// Open implements [handler.Config].
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return &logHandler{env.Log}, nil
}
