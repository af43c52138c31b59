package app

import (
	"context"
	"fmt"
	"net"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/auth"
	"callbackd/internal/disk"
	"callbackd/internal/dispatch"
	"callbackd/internal/heartbeat"
	"callbackd/internal/inbox"
	"callbackd/internal/receiver"

	"go.uber.org/zap"
)

// watchDisk looks at the disk for the first time; the time in which callbacks are refused for want of room is noted as one without acks.
func (a *App) watchDisk() {
	bounds := a.c.Inbox.Disk
	a.disk = disk.New(disk.Options{
		Dir: a.c.DataDir, WarnFree: int64(bounds.WarnFree), ShedFree: int64(bounds.ShedFree),
		Ended: func(from, to time.Time, refused int64) {
			a.store.NoteOutage(inbox.Outage{From: from, To: to, Reason: "the disk was nearly full", Refused: refused})
		},
		Metrics: disk.NewMetrics(a.registry), Log: a.log.Named("disk"), Measure: a.o.measureDisk,
	})
}

// diskFull makes the receiver's refusal of what the watch says.
func diskFull(full func() error) func() error {
	return func() error {
		if err := full(); err != nil {
			return fmt.Errorf("%w: %w", receiver.ErrDiskFull, err)
		}
		return nil
	}
}

// newHeart prepares the heartbeats, which share with the real receiver what they can. Those that a crash, or another configuration, has
// left in the inbox are removed in any case.
func (a *App) newHeart(ctx context.Context, o receiver.Options, gates *auth.Metrics, sockets *sockets) error {
	if _, err := a.store.RemoveService(ctx, heartbeat.Name); err != nil {
		return fmt.Errorf("remove the last run's heartbeats: %w", err)
	}
	metrics := heartbeat.NewMetrics(a.registry)
	if a.c.Heartbeat.Interval == 0 {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if l, err = net.Listen("tcp", "[::1]:0"); err != nil {
			return fmt.Errorf("heartbeat: no port on loopback: %w: `heartbeat: {interval: 0s}` does without", err)
		}
	}
	sockets.add(l)
	o.Shed = diskFull(a.disk.Full)
	a.heart, err = heartbeat.New(heartbeat.Options{
		Listener: l, Interval: a.c.Heartbeat.Interval, Store: a.store, Receiver: o, Gates: gates, Metrics: metrics,
		Log: a.log.Named("heartbeat"),
	})
	return err
}

// heartInstance is the handler that heartbeats end in, if there are any. It is asked for nothing but a note, so it has no breaker.
func (a *App) heartInstance() []dispatch.Instance {
	if a.heart == nil {
		return nil
	}
	return []dispatch.Instance{{Name: heartbeat.Name, Handler: a.heart,
		Policy: dispatch.Policy{Timeout: 5 * time.Second, Breaker: dispatch.Breaker{Failures: dispatch.NoBreaker}}}}
}

// beat runs the heartbeats until ctx ends, whatever happens to them: a part that ends by itself would stop the receiving.
func (a *App) beat(ctx context.Context) error {
	func() {
		defer func() {
			if v := recover(); v != nil {
				a.log.Error("there are no heartbeats any more: they panicked", zap.Any("panic", v), zap.Stack("stack"))
			}
		}()
		_ = a.heart.Run(ctx) // it has told
	}()
	<-ctx.Done()
	return nil
}

// signalChecks are those of the disk and of the heartbeats. A disk that fills and a heartbeat that is lost stop nothing by themselves.
func (a *App) signalChecks() []admin.Check {
	checks := []admin.Check{
		{Name: "disk_full", Essential: true, Run: func(context.Context) error { return a.disk.Full() }},
		{Name: "disk", Run: func(context.Context) error { return a.disk.Low() }},
	}
	if a.heart != nil {
		checks = append(checks, admin.Check{Name: heartbeat.Name, Run: func(context.Context) error { return a.heart.Lost() }})
	}
	return checks
}
