package app

import (
	"errors"
	"io/fs"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
)

// tellTraces has the libraries of OpenTelemetry tell in our log what they would else write to standard error in a form of their own, values
// of variables included.
func tellTraces(log *zap.Logger) {
	otel.SetLogger(logr.New(traceLog{log}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces do not work as they should", zap.Error(err)) }))
}

// traceLog writes the errors. What they were about is left out, and most of their causes as well: it may be a URL with a password, or a key
// in a header.
type traceLog struct{ log *zap.Logger }

func (l traceLog) Error(err error, msg string, _ ...any) {
	fields := []zap.Field{zap.String("problem", msg)}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		fields = append(fields, zap.Error(file))
	}
	l.log.Error("a variable OTEL_* cannot be used, and is passed over", fields...)
}

func (traceLog) Init(logr.RuntimeInfo)            {}
func (traceLog) Enabled(int) bool                 { return false } // what is no error
func (traceLog) Info(int, string, ...any)         {}
func (l traceLog) WithValues(...any) logr.LogSink { return l }
func (l traceLog) WithName(string) logr.LogSink   { return l }
