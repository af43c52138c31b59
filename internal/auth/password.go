package auth

import (
	"fmt"
	"io"
)

const redacted = "[redacted]"

// Password is a secret that no verb of fmt, no encoding and no log shows. The text stands behind a pointer, so that even a
// print of an unexported field, where fmt calls no methods, shows an address at most. The zero value is the empty password.
type Password struct{ text *string }

// NewPassword wraps text.
func NewPassword(text string) Password { return Password{&text} }

func (p Password) reveal() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

// Format implements [fmt.Formatter], for every verb.
func (Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

func (Password) String() string { return redacted }

// MarshalText serves JSON, YAML, XML, slog and zap's reflection.
func (Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }
