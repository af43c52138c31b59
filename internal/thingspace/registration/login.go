package registration

import (
	"fmt"
	"io"

	"go.uber.org/zap/zapcore"
)

// Login is a user name with its password, which no verb of fmt, no encoding and no log shows.
type Login struct{ Username, Password string }

// Format implements [fmt.Formatter], for every verb.
func (l Login) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "log-in of "+fmt.Sprintf("%q", l.Username))
}

// MarshalText serves JSON, YAML and slog.
func (l Login) MarshalText() ([]byte, error) { return fmt.Append(nil, l), nil }

// MarshalLogObject implements [zapcore.ObjectMarshaler], without the password.
func (l Login) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("username", l.Username)
	return nil
}

// Registration is a listener that the platform holds for a service of an account. An answer may hold its password too, which is
// dropped in reading.
type Registration struct{ Account, Service, URL, Username string }
