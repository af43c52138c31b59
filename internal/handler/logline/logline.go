// Package logline is the handler type "log": one line in callbackd's log for each callback.
//
// The line tells what arrived and never what it said: identifiers are masked but for their last four characters, and texts are left
// out. Codes that the sender chose, such as a fault's, are shown only if they look like codes. A line has a bounded length.
package logline

import (
	"context"

	"callbackd/internal/callback"
	"callbackd/internal/handler"

	"go.uber.org/zap"
)

// logHandler writes lines. It is safe for concurrent use and cannot fail.
type logHandler struct{ log *zap.Logger }

func (h *logHandler) Handle(_ context.Context, d *handler.Delivery) error {
	fields := []zap.Field{
		zap.String("delivery", d.ID),
		zap.Int64("seq", d.Seq),
		zap.String("service", string(d.Service)),
		zap.String("kind", string(d.Callback.Kind)),
		zap.String("account", d.Account),
		zap.Time("received_at", d.ReceivedAt),
		zap.Strings("devices", masked(d.Callback.Devices)),
	}
	if d.Callback.RequestID != "" {
		fields = append(fields, zap.String("request_id", code(d.Callback.RequestID)))
	}
	if f := d.Callback.Fault; f != nil && f.Code != "" {
		fields = append(fields, zap.String("fault", code(f.Code)))
	}
	if len(d.Flags) > 0 {
		fields = append(fields, zap.Strings("flags", d.Flags))
	}
	if d.Replay {
		fields = append(fields, zap.Bool("replay", true))
	}
	h.log.Info("callback", fields...)
	return nil
}

func (h *logHandler) Close() error { return nil }

// mostDevices bounds the list in one line.
const mostDevices = 8

func masked(devices []callback.Device) []string {
	list := make([]string, 0, min(len(devices), mostDevices))
	for _, d := range devices[:min(len(devices), mostDevices)] {
		list = append(list, code(d.Kind)+":"+mask(d.Identifier))
	}
	if len(devices) > mostDevices {
		list = append(list, "...")
	}
	return list
}

// mask leaves the last four characters, and nothing of an identifier that is hardly longer.
func mask(identifier string) string {
	const shown = 4
	r := []rune(identifier)
	if len(r) < 2*shown {
		return hidden
	}
	return hidden + string(r[len(r)-shown:])
}

// hidden stands for what is not shown.
const hidden = "****"

// code leaves a text that looks like a code or a RequestId, and nothing of one that could be prose or a number of somebody's.
func code(text string) string {
	const longest = 128
	letter := false
	for _, r := range text {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letter = true
		case r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_':
		default:
			return hidden
		}
	}
	if !letter || len(text) > longest {
		return hidden
	}
	return text
}
