package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// parts are what runs until it is told to stop.
type parts struct {
	list  []*part
	first chan error // the end of a part that was not told to
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// errEnded is a part that returned without an error and without being asked to.
var errEnded = errors.New("ended by itself")

func (ps *parts) start(name string, run func(context.Context) error) {
	if ps.first == nil {
		ps.first = make(chan error, 16)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	ps.list = append(ps.list, p)
	go func() {
		defer close(p.done)
		p.err = run(ctx)
		if ctx.Err() == nil {
			ps.first <- fmt.Errorf("%s: %w", name, errors.Join(p.err, errEnded))
			p.err = nil // told
		}
	}()
}

// ended gets the error of the first part that ends by itself.
func (ps *parts) ended() <-chan error { return ps.first }

// stop ends a part and waits for it.
func (ps *parts) stop(log *zap.Logger, name string) error {
	for _, p := range ps.list {
		if p.name != name {
			continue
		}
		from := time.Now()
		p.cancel()
		<-p.done
		log.Info("stopped part", zap.String("part", name), zap.Duration("took", time.Since(from)), zap.Error(p.err))
		if p.err != nil {
			return fmt.Errorf("stop %s: %w", name, p.err)
		}
	}
	return nil
}

// teardown is what has to be undone, the last thing first.
type teardown struct{ steps []step }

type step struct {
	name string
	undo func() error
}

func (t *teardown) push(name string, undo func() error) { t.steps = append(t.steps, step{name, undo}) }

func (t *teardown) run(log *zap.Logger) error { return t.runTo(log, "") }

// runTo undoes the steps down to the named one, which stays with those before it.
func (t *teardown) runTo(log *zap.Logger, last string) error {
	var errs []error
	for len(t.steps) > 0 {
		s := t.steps[len(t.steps)-1]
		if s.name == last {
			break
		}
		t.steps = t.steps[:len(t.steps)-1]
		if err := s.undo(); err != nil {
			log.Error("teardown failed", zap.String("step", s.name), zap.Error(err))
			errs = append(errs, fmt.Errorf("close %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
