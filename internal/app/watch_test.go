package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/thingspace/registration"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

type panicking struct{}

func (panicking) List(context.Context, string) ([]registration.Registration, error) {
	panic("as a bug would")
}

// TestAWatchThatPanicsIsNoEndOfAPart, which would stop the receiving.
func TestAWatchThatPanicsIsNoEndOfAPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.ErrorLevel)
		a := &App{log: zap.New(core)}
		w := registration.NewWatch(registration.WatchOptions{Account: "0212345678-00001", Platform: panicking{}, Interval: time.Minute, Log: zap.NewNop()})
		var parts parts
		parts.start("watch", func(ctx context.Context) error {
			return a.watch(ctx, "0212345678-00001", w, platform{unusable: errors.New("no client")})
		})
		select {
		case err := <-parts.ended():
			t.Error(err)
		case <-time.After(time.Hour):
		}
		if err := parts.stop(a.log, "watch", time.Minute); err != nil {
			t.Error(err)
		}
		if n := logged.FilterMessageSnippet("panicked").Len(); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}
