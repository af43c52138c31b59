// Package builtin is the one list of handler types that a configuration can name. A new type is a line here.
package builtin

import (
	"callbackd/internal/handler"
	"callbackd/internal/handler/exec"
	"callbackd/internal/handler/kafka"
	"callbackd/internal/handler/logline"
	"callbackd/internal/handler/nats"
	"callbackd/internal/handler/ndjson"
	"callbackd/internal/handler/postgres"
	"callbackd/internal/handler/webhook"
)

// Types lists the handler types.
func Types() []handler.Type {
	return []handler.Type{
		logline.Type(),
		exec.Type(),
		kafka.Type(),
		nats.Type(),
		ndjson.Type(),
		postgres.Type(),
		webhook.Type(),
	}
}
