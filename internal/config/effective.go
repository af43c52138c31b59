package config

import (
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"

	"go.yaml.in/yaml/v3"
)

// MarshalYAML writes a handler's common keys and its type's own as one mapping.
func (h *Handler) MarshalYAML() (any, error) {
	type common Handler // without this method
	var node, own yaml.Node
	if err := node.Encode((*common)(h)); err != nil {
		return nil, err
	}
	if err := own.Encode(h.Config); err != nil {
		return nil, err
	}
	node.Content = append(node.Content, own.Content...)
	return &node, nil
}

// MarshalYAML leaves out a password that a file holds: the file is named.
func (c Credential) MarshalYAML() (any, error) {
	type plain Credential // without this method
	if c.PasswordFile != "" {
		c.Password = Secret{}
	}
	return plain(c), nil
}

// defaultDelivery is how deliveries to a handler of the type are made, unless the file says otherwise.
func defaultDelivery(kind handler.Type) Delivery {
	p := dispatch.Policy{Concurrency: kind.Concurrency}.WithDefaults()
	return Delivery{Concurrency: p.Concurrency, Timeout: p.Timeout, MaxAttempts: p.MaxAttempts, Backoff: Backoff(p.Backoff),
		Breaker: Breaker{Failures: p.Breaker.Failures, Share: p.Breaker.Share, Open: Backoff(p.Breaker.Open)},
		OrderBy: OrderByNone, HeadOfLine: HeadOfLineBury}
}
