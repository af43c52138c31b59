package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// ask tells a part to end, and does not wait.
func (ps *parts) ask(name string) { ps.named(name).cancel() }

// stop ends a part and waits for it, no longer than the limit.
func (ps *parts) stop(log *zap.Logger, name string, limit time.Duration) error {
	p := ps.named(name)
	from := time.Now()
	p.cancel()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-p.done:
	case <-over.C:
		log.Error("a part does not stop and is left behind", zap.String("part", name), zap.Duration("waited", limit))
		return fmt.Errorf("stop %s: %w %s", name, errLeftBehind, limit)
	}
	log.Info("stopped part", zap.String("part", name), zap.Duration("took", time.Since(from)), zap.Error(p.err))
	if p.err != nil {
		return fmt.Errorf("stop %s: %w", name, p.err)
	}
	return nil
}

var errLeftBehind = errors.New("still busy after")

// leftBehind reports whether a part that was told to stop is still at work.
func (ps *parts) leftBehind(name string) bool {
	select {
	case <-ps.named(name).done:
		return false
	default:
		return true
	}
}

func (ps *parts) named(name string) *part {
	return ps.list[slices.IndexFunc(ps.list, func(p *part) bool { return p.name == name })]
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
		from := time.Now()
		if err := s.within(stepLimit); err != nil {
			log.Error("teardown failed", zap.String("step", s.name), zap.Error(err))
			errs = append(errs, fmt.Errorf("close %s: %w", s.name, err))
			continue
		}
		log.Info("closed", zap.String("step", s.name), zap.Duration("took", time.Since(from)))
	}
	return errors.Join(errs...)
}

// stepLimit bounds each step.
const stepLimit = 15 * time.Second

// within undoes a step, or leaves it behind.
func (s step) within(limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.undo() }()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case err := <-done:
		return err
	case <-over.C:
		return fmt.Errorf("%w %s", errLeftBehind, limit)
	}
}

// drop leaves out the steps whose names begin so.
func (t *teardown) drop(prefix string) {
	t.steps = slices.DeleteFunc(t.steps, func(s step) bool { return strings.HasPrefix(s.name, prefix) })
}
