package app

import (
	"fmt"
	"io"

	"callbackd/internal/config"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger builds the log that the configuration asks for.
func NewLogger(c config.Log, w io.Writer) (*zap.Logger, error) {
	log, _, err := NewLevelledLogger(c, w)
	return log, err
}

// NewLevelledLogger is NewLogger with the level in hand, which can be changed at any time.
func NewLevelledLogger(c config.Log, w io.Writer) (*zap.Logger, *zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("log.level: %w", err)
	}
	e := zap.NewProductionEncoderConfig()
	e.TimeKey, e.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	e.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(e)
	if c.Format == "console" {
		e.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		e.EncodeDuration = zapcore.StringDurationEncoder
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		e.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(e)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), &level, nil
}
