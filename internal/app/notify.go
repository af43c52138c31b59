package app

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// managerPart is the part that tells systemd how callbackd stands, where callbackd runs as a service of it (Type=notify).
const managerPart = "systemd"

// tellEvery is how often it is told without a watchdog.
const tellEvery = 10 * time.Second

// manage tells systemd that callbackd is ready once it receives, and from then on how it stands. With a watchdog (WatchdogSec=) it gives signs
// of life, as long as there is life.
func (a *App) manage(ctx context.Context) error {
	select {
	case <-a.receiver.Receiving():
	case <-ctx.Done():
		return nil
	}
	every := tellEvery
	var signs []string
	if limit, err := daemon.SdWatchdogEnabled(false); err != nil {
		a.log.Warn("the watchdog of systemd gets no signs of life", zap.Error(err))
	} else if limit > 0 {
		every, signs = limit/3, append(signs, daemon.SdNotifyWatchdog)
	}
	a.tell(daemon.SdNotifyReady, a.standing())
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.sign(signs, a.alive)
		case <-ctx.Done():
			return nil
		}
	}
}

// sign gives signs of life, unless there is none. If alive does not return, neither does sign: then there are no more signs.
func (a *App) sign(signs []string, alive func() error) {
	if err := alive(); err != nil {
		a.log.Error("callbackd does not work as it should, and is not going to by itself; the watchdog, if there is one, will restart it", zap.Error(err))
		return
	}
	a.tell(append(signs, a.standing())...)
}

// alive asks the parts that every callback passes. It returns at once while they work, also when the disk or a handler is slow, and never
// if one of them has got stuck for good: a restart mends that, and nothing else.
func (a *App) alive() error {
	a.receiver.Alive()
	a.dispatcher.Alive()
	return a.store.Alive()
}

// standing is what `systemctl status` shows.
func (a *App) standing() string {
	if err := a.store.Status(); err != nil {
		return "STATUS=Refusing all callbacks: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return fmt.Sprintf("STATUS=Receiving %d services; admin on %s", len(a.addresses.Services), a.addresses.Admin)
}

// reloading and reloaded frame a change of configuration.
func (a *App) reloading() {
	a.tell(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}
func (a *App) reloaded() { a.tell(daemon.SdNotifyReady, a.standing()) }

// leaving tells that callbackd stops, and how long that may take at most: as long as the configuration and the limits of the steps say.
func (a *App) leaving() {
	const margins = 8 // of dispatcher, receiver, the note between, this part; and of control and admin two each
	s := a.c.Shutdown
	atMost := s.LameDuck + s.Grace + s.Drain + time.Duration(margins+len(a.watching))*stopMargin + time.Duration(len(a.teardown.steps))*stepLimit
	a.tell(daemon.SdNotifyStopping, "STATUS=Stopping", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", atMost.Microseconds()))
}

// managed reports whether systemd wants to be told.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// tell sends a message to systemd, if there is one that listens.
func (a *App) tell(states ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		a.log.Warn("cannot tell systemd how callbackd stands", zap.Error(err))
	}
}
