package handler_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
)

// A handler for one kind is a function of its payload.
func ExampleFor() {
	h := handler.For(func(_ context.Context, d *handler.Delivery, usage *callback.Usage) error {
		used, ok := usage.BytesUsed.Int64()
		if !ok {
			return handler.Permanent(errors.New("bytes used is no number"))
		}
		fmt.Println(d.Service, d.Account, used)
		return nil
	})
	defer h.Close()

	d := &handler.Delivery{ID: "0195a3c8.usage", Service: callback.DeviceUsage, Account: "main",
		Callback: &callback.Callback{Kind: callback.KindUsage, Usage: &callback.Usage{BytesUsed: "1048576"}}}
	fmt.Println(h.Handle(context.Background(), d))
	d.Callback.Usage.BytesUsed = "plenty"
	err := h.Handle(context.Background(), d)
	fmt.Println(err, handler.IsPermanent(err))
	// Output:
	// DeviceUsage main 1048576
	// <nil>
	// bytes used is no number true
}

// A destination that says when to come back is asked no sooner.
func ExampleRetryAfter() {
	err := handler.RetryAfter(30*time.Second, errors.New("destination answers 503"))
	fmt.Println(err, handler.RetryDelay(err))
	// Output: destination answers 503 30s
}
