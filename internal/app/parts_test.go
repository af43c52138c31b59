package app

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func TestAPartThatDoesNotStopIsLeftBehindAfterItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		ps := &parts{}
		ps.start("stuck", func(context.Context) error { <-let; return nil })
		ps.start("obedient", func(ctx context.Context) error { <-ctx.Done(); return nil })
		if err := ps.stop(zap.NewNop(), "obedient", time.Minute); err != nil || ps.leftBehind("obedient") {
			t.Errorf("the obedient part: %v", err)
		}
		from := time.Now()
		if err := ps.stop(zap.NewNop(), "stuck", time.Minute); !errors.Is(err, errLeftBehind) || !ps.leftBehind("stuck") {
			t.Errorf("the stuck part: %v", err)
		}
		if took := time.Since(from); took != time.Minute {
			t.Errorf("it took %s", took)
		}
		close(let)
	})
}

func TestAPartThatEndsByItselfIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("its cause")
		ps := &parts{}
		ps.start("brittle", func(context.Context) error { return cause })
		if err := <-ps.ended(); !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "brittle: ") {
			t.Errorf("told is %v", err)
		}
		if err := ps.stop(zap.NewNop(), "brittle", time.Minute); err != nil {
			t.Errorf("and told again: %v", err)
		}
	})
}

func TestTeardownGoesBackwardsAndLeavesBehindWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		var mu sync.Mutex // what hangs is not waited for
		var order []string
		td := &teardown{}
		for _, name := range []string{lockStep, "inbox", handlerStep + "a", handlerStep + "b"} {
			td.push(name, func() error {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				if name == handlerStep+"b" {
					<-let
				}
				return nil
			})
		}
		if err := td.runTo(zap.NewNop(), lockStep); !errors.Is(err, errLeftBehind) || !strings.Contains(err.Error(), handlerStep+"b") {
			t.Errorf("error %v", err)
		}
		if got := strings.Join(order, ", "); got != "handler b, handler a, inbox" {
			t.Errorf("the order is %s", got)
		}
		if err := td.run(zap.NewNop()); err != nil || order[len(order)-1] != lockStep {
			t.Errorf("the last step: %v, %v", order, err)
		}
		close(let)
	})
}

func TestHandlersThatAreStillAtWorkAreNotClosed(t *testing.T) {
	t.Parallel()
	td := &teardown{}
	closed := ""
	for _, name := range []string{lockStep, handlerStep + "a", "inbox"} {
		td.push(name, func() error { closed += name + ";"; return nil })
	}
	td.drop(handlerStep)
	if err := td.run(zap.NewNop()); err != nil || closed != "inbox;data_dir lock;" {
		t.Errorf("closed %s, %v", closed, err)
	}
}
