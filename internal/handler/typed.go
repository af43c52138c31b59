package handler

import (
	"context"

	"callbackd/internal/callback"
)

// For makes a handler of a function of one payload type.
//
// The function gets every callback that carries such a payload, whatever its Kind: a Fault or a Status stands beside the payload of
// another kind at times. A callback without it is done at once, so that a handler for one kind may stand in a route for all of them; a payload
// that the message marks as nil is none, and one that is there and empty is one. The payload is the one in d.Callback and never nil.
//
// A callback of kind Unknown carries no payload: what is to see those implements [Handler] itself, and finds them in Callback.Extra.
func For[T callback.Payload](handle func(ctx context.Context, d *Delivery, payload *T) error) Handler {
	return typed[T]{handle}
}

type typed[T callback.Payload] struct {
	handle func(context.Context, *Delivery, *T) error
}

func (t typed[T]) Handle(ctx context.Context, d *Delivery) error {
	if payload := callback.PayloadOf[T](d.Callback); payload != nil {
		return t.handle(ctx, d, payload)
	}
	return nil
}

func (typed[T]) Close() error { return nil }
