// Package handlertest is the suite that every handler passes: it checks what package handler asks of a handler, by calling it.
//
//	func TestSuite(t *testing.T) {
//		handlertest.Run(t, handlertest.Subject{Type: ndjson.Type(), Open: open, Broken: openOnFullDisk})
//	}
//
// The limits: what a handler does with a callback is for its own tests to say, and so is that it is done only when that is durable.
package handlertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Subject is the handler type under test.
type Subject struct {
	Type handler.Type
	// Open opens a handler that works. What it needs it takes from t.
	Open func(t testing.TB, env handler.Env) handler.Handler
	// Broken opens one whose destination fails all the time, in the way that is most usual; nil for a type that cannot fail.
	Broken func(t testing.TB, env handler.Env) handler.Handler

	patience time.Duration // default 10 s
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			if err := r.check(t, s.withDefaults()); err != nil {
				t.Error(err)
			}
		})
	}
}

type rule struct {
	name  string
	check func(t testing.TB, s Subject) error
}

func rules() []rule {
	return []rule{
		{"its type is well formed", wellFormed},
		{"it takes every kind, and the same delivery twice", takesEveryKind},
		{"it does not panic at a callback that lacks everything", survives},
		{"it takes calls at once", concurrent},
		{"it returns when its context ends", returns},
		{"a destination that fails is a retry", retries},
		{"its log and its errors quote no callback", quotesNothing},
		{"its metrics are there from the start, and go with it", measures},
		{"it can be closed twice, and leaves no goroutine", closes},
	}
}

func (s Subject) withDefaults() Subject {
	if s.patience == 0 {
		s.patience = 10 * time.Second
	}
	return s
}

// env is what a handler under test gets: a log that is read.
func env() (handler.Env, *buffer) {
	log := &buffer{}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), log, zapcore.DebugLevel)
	noEnvironment := func(string) (string, bool) { return "", false }
	return handler.Env{Name: "under-test", Log: zap.New(core), Registerer: prometheus.NewRegistry(), LookupEnv: noEnvironment}, log
}

func wellFormed(_ testing.TB, s Subject) error {
	if s.Type.Name == "" || strings.Trim(s.Type.Name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fmt.Errorf("name %q is not of lower case letters and digits", s.Type.Name)
	}
	if s.Type.Concurrency < 0 {
		return errors.New("concurrency is negative")
	}
	if s.Type.Config == nil || s.Type.Config() == nil {
		return errors.New("there is no configuration to decode into")
	}
	v := reflect.ValueOf(s.Type.Config())
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("configuration is a %s, which nothing can be decoded into: it must be a pointer to a struct", v.Type())
	}
	for i := range v.Elem().NumField() {
		f := v.Elem().Type().Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.IsExported() && key == "" {
			return fmt.Errorf("field %s of the configuration has no yaml tag, so it cannot be set", f.Name)
		}
		if key == "type" || key == "delivery" {
			return fmt.Errorf("key %s of the configuration is every handler's, and not a type's to take", key)
		}
	}
	for _, err := range s.Type.Config().Validate() {
		if key, msg, found := strings.Cut(err.Error(), ": "); !found || strings.Contains(key, " ") || msg == "" {
			return fmt.Errorf("problem %q of the configuration does not begin with the key that it is about", err)
		}
	}
	return nil
}

func takesEveryKind(t testing.TB, s Subject) (err error) {
	e, _ := env()
	h := s.Open(t, e)
	defer func() { err = errors.Join(err, h.Close()) }()
	for range 2 {
		for _, d := range Deliveries() {
			if err := h.Handle(t.Context(), d); err != nil {
				return fmt.Errorf("kind %s: %w", d.Callback.Kind, err)
			}
		}
	}
	return nil
}

// survives lets the handler see callbacks of which there is nothing but the kind, which the platform sends at times. Any verdict is right.
func survives(t testing.TB, s Subject) (err error) {
	e, _ := env()
	h := s.Open(t, e)
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, d := range Deliveries() {
		d.ID += ".bare"
		d.Callback = &callback.Callback{Kind: d.Callback.Kind}
		if err := recovered(func() { _ = h.Handle(t.Context(), d) }); err != nil {
			return fmt.Errorf("kind %s: %w", d.Callback.Kind, err)
		}
	}
	return nil
}

func recovered(call func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	call()
	return nil
}

func concurrent(t testing.TB, s Subject) (err error) {
	const callers = 8
	e, _ := env()
	h := s.Open(t, e)
	defer func() { err = errors.Join(err, h.Close()) }()
	failures := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for _, d := range Deliveries() {
				d.ID += fmt.Sprint(".", i+1)
				if err := h.Handle(t.Context(), d); err != nil {
					failures[i] = fmt.Errorf("caller %d, kind %s: %w", i, d.Callback.Kind, err)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

// returns calls with a context that has ended, and with one that ends soon.
func returns(t testing.TB, s Subject) error {
	e, _ := env()
	for _, open := range s.opens() {
		h := open(t, e)
		for _, limit := range []time.Duration{0, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			result := make(chan error, 1)
			go func() { result <- h.Handle(ctx, Deliveries()[0]) }()
			select {
			case err := <-result:
				if handler.IsPermanent(err) {
					cancel()
					return fmt.Errorf("the end of the context came to a permanent error: %w", err)
				}
			case <-time.After(s.patience):
				cancel()
				return fmt.Errorf("no answer %s after the end of the context", s.patience)
			}
			cancel()
		}
		if err := h.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return nil
}

func (s Subject) opens() []func(testing.TB, handler.Env) handler.Handler {
	if s.Broken == nil {
		return []func(testing.TB, handler.Env) handler.Handler{s.Open}
	}
	return []func(testing.TB, handler.Env) handler.Handler{s.Open, s.Broken}
}

func retries(t testing.TB, s Subject) error {
	if s.Broken == nil {
		return nil
	}
	e, _ := env()
	h := s.Broken(t, e)
	defer func() { _ = h.Close() }() // what holds the destination may fail to close too
	for _, d := range Deliveries() {
		switch err := h.Handle(t.Context(), d); {
		case err == nil:
			return fmt.Errorf("kind %s: done, though the destination fails: the callback would be lost", d.Callback.Kind)
		case handler.IsPermanent(err):
			return fmt.Errorf("kind %s: buried, though the destination may recover: %w", d.Callback.Kind, err)
		}
	}
	return nil
}

func quotesNothing(t testing.TB, s Subject) error {
	e, log := env()
	var said []string
	for _, open := range s.opens() {
		h := open(t, e)
		for _, d := range Deliveries() {
			if err := h.Handle(t.Context(), d); err != nil {
				said = append(said, err.Error())
			}
		}
		_ = h.Close() // other rules look at it
	}
	said = append(said, log.String())
	for _, s := range said {
		for _, personal := range Personal() {
			if strings.Contains(s, personal) {
				return fmt.Errorf("%q holds the personal data %q", s, personal)
			}
		}
	}
	return nil
}

// measures looks at the handler's own metrics. A series that comes with a delivery is missing from every alert before, and may be made of
// what a callback says.
func measures(t testing.TB, s Subject) error {
	for _, open := range s.opens() {
		e, _ := env()
		reg := prometheus.NewRegistry()
		e.Registerer = reg
		h := open(t, e)
		before, err := series(reg)
		for _, d := range Deliveries()[:3] {
			_ = h.Handle(t.Context(), d) // other rules look at the verdict
		}
		after, again := series(reg)
		_ = h.Close() // and at this
		left, last := series(reg)
		if err := errors.Join(err, again, last); err != nil {
			return err
		}
		for _, name := range after {
			if !slices.Contains(before, name) {
				return fmt.Errorf("%s comes with a delivery: make every label set when the handler is opened", name)
			}
			if !strings.HasPrefix(name, "callbackd_") {
				return fmt.Errorf("%s does not begin with callbackd_", name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("after Close there is still %v: the next Open could not register it", left)
		}
	}
	return nil
}

// series lists what a registry shows, by name and labels.
func series(reg prometheus.Gatherer) ([]string, error) {
	families, err := reg.Gather()
	var list []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
			}
			list = append(list, name)
		}
	}
	return list, err
}

// closes runs a handler's life on goroutines that bear a label, which those that it starts inherit.
func closes(t testing.TB, s Subject) error {
	const label = "handlertest"
	mark := t.Name()
	failed := make(chan error, 1)
	go pprof.Do(t.Context(), pprof.Labels(label, mark), func(ctx context.Context) {
		defer close(failed) // Open may have ended the test
		e, _ := env()
		h := s.Open(t, e)
		err := h.Handle(ctx, Deliveries()[0])
		for _, time := range []string{"first", "second"} {
			if closing := h.Close(); closing != nil {
				err = errors.Join(err, fmt.Errorf("%s close: %w", time, closing))
			}
		}
		failed <- err
	})
	if err := <-failed; err != nil {
		return err
	}
	deadline := time.After(s.patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			return err
		}
		if !strings.Contains(b.String(), fmt.Sprintf("%q:%q", label, mark)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("goroutines go on after Close:\n%s", b.String())
		}
	}
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Sync() error { return nil }

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
