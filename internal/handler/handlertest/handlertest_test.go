package handlertest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// fake is a handler with one defect at most.
type fake struct {
	handle func(ctx context.Context, d *handler.Delivery) error
	close  func() error
}

func (f fake) Handle(ctx context.Context, d *handler.Delivery) error {
	if f.handle == nil {
		return nil
	}
	return f.handle(ctx, d)
}

func (f fake) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

type goodConfig struct {
	Path string `yaml:"path"`
}

func (*goodConfig) Validate() []error { return []error{errors.New("path: missing")} }
func (*goodConfig) Open(context.Context, handler.Env) (handler.Handler, error) {
	return fake{}, nil
}

type untagged struct {
	goodConfig `yaml:"-"`
	Path       string
}

type greedy struct {
	goodConfig `yaml:"-"`
	Type       string `yaml:"type"`
}

type unkeyed struct{ goodConfig }

func (*unkeyed) Validate() []error { return []error{errors.New("the path is missing")} }

type byValue struct{}

func (byValue) Validate() []error                                          { return nil }
func (byValue) Open(context.Context, handler.Env) (handler.Handler, error) { return fake{}, nil }

func typed(c handler.Config) handler.Type {
	return handler.Type{Name: "fake", Config: func() handler.Config { return c }}
}

func opens(f fake) func(testing.TB, handler.Env) handler.Handler {
	return func(testing.TB, handler.Env) handler.Handler { return f }
}

var errRefused = errors.New("refused")

func good() Subject {
	return Subject{
		Type: typed(&goodConfig{}), Open: opens(fake{}),
		Broken:   opens(fake{handle: func(context.Context, *handler.Delivery) error { return errRefused }}),
		patience: 200 * time.Millisecond,
	}
}

func TestAGoodHandlerPasses(t *testing.T) {
	t.Parallel()
	Run(t, good())
	simple := good()
	simple.Broken = nil
	Run(t, simple)
}

// TestEachRuleFindsItsDefect shows each rule a handler that breaks it.
func TestEachRuleFindsItsDefect(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	with := func(change func(s *Subject)) Subject {
		s := good()
		change(&s)
		return s
	}
	handles := func(f func(ctx context.Context, d *handler.Delivery) error) Subject {
		return with(func(s *Subject) { s.Open = opens(fake{handle: f}) })
	}
	calls := make(chan struct{}, 1)
	for _, test := range []struct {
		defect  string
		subject Subject
		rule    string
	}{
		{"a name with a space", with(func(s *Subject) { s.Type.Name = "a fake" }), "its type is well formed"},
		{"no configuration", with(func(s *Subject) { s.Type.Config = nil }), "its type is well formed"},
		{"a configuration by value", with(func(s *Subject) { s.Type = typed(byValue{}) }), "its type is well formed"},
		{"a field without a key", with(func(s *Subject) { s.Type = typed(&untagged{}) }), "its type is well formed"},
		{"a key of everybody's", with(func(s *Subject) { s.Type = typed(&greedy{}) }), "its type is well formed"},
		{"a problem without its key", with(func(s *Subject) { s.Type = typed(&unkeyed{}) }), "its type is well formed"},
		{"fails on a kind", handles(func(_ context.Context, d *handler.Delivery) error {
			if d.Callback.Kind == callback.KindUnknown {
				return errRefused
			}
			return nil
		}), "it takes every kind, and the same delivery twice"},
		{"panics without a payload", handles(func(_ context.Context, d *handler.Delivery) error {
			if d.Callback.Kind == callback.KindUsage {
				_ = d.Callback.Usage.BytesUsed
			}
			return nil
		}), "it does not panic at a callback that lacks everything"},
		{"fails when called at once", handles(func(context.Context, *handler.Delivery) error {
			select {
			case calls <- struct{}{}:
				<-time.After(time.Millisecond)
				<-calls
				return nil
			default:
				return errRefused
			}
		}), "it takes calls at once"},
		{"ignores its context", handles(func(ctx context.Context, _ *handler.Delivery) error {
			if _, ok := ctx.Deadline(); ok {
				<-end
			}
			return nil
		}), "it returns when its context ends"},
		{"buries at a time-out", handles(func(ctx context.Context, _ *handler.Delivery) error {
			if _, ok := ctx.Deadline(); ok {
				<-ctx.Done()
				return handler.Permanent(ctx.Err())
			}
			return nil
		}), "it returns when its context ends"},
		{"says done though it failed", with(func(s *Subject) { s.Broken = opens(fake{}) }), "a destination that fails is a retry"},
		{"buries when the destination fails", with(func(s *Subject) {
			s.Broken = opens(fake{handle: func(ctx context.Context, _ *handler.Delivery) error {
				if ctx.Err() != nil || hasDeadline(ctx) {
					return nil
				}
				return handler.Permanent(errRefused)
			}})
		}), "a destination that fails is a retry"},
		{"quotes the callback in an error", with(func(s *Subject) {
			s.Broken = opens(fake{handle: func(_ context.Context, d *handler.Delivery) error {
				if len(d.Callback.Devices) > 0 {
					return errors.New("cannot deliver for " + d.Callback.Devices[0].Identifier)
				}
				return errRefused
			}})
		}), "its log and its errors quote no callback"},
		{"quotes the callback in its log", with(func(s *Subject) {
			s.Open = func(_ testing.TB, e handler.Env) handler.Handler {
				return fake{handle: func(_ context.Context, d *handler.Delivery) error {
					e.Log.Info("got", zap.Any("devices", d.Callback.Devices))
					return nil
				}}
			}
		}), "its log and its errors quote no callback"},
		{"counts by what the callback says", measured(func(reg prometheus.Registerer) fake {
			c := counter("callbackd_fake_total", "device")
			reg.MustRegister(c)
			return fake{
				handle: func(_ context.Context, d *handler.Delivery) error { c.WithLabelValues(d.ID).Inc(); return nil },
				close:  func() error { reg.Unregister(c); return nil },
			}
		}), metricsRule},
		{"leaves its metrics behind", measured(func(reg prometheus.Registerer) fake {
			c := counter("callbackd_fake_total")
			reg.MustRegister(c)
			c.WithLabelValues()
			return fake{}
		}), metricsRule},
		{"calls a metric by a name of others", measured(func(reg prometheus.Registerer) fake {
			c := counter("fake_total")
			reg.MustRegister(c)
			c.WithLabelValues()
			return fake{close: func() error { reg.Unregister(c); return nil }}
		}), metricsRule},
		{"cannot be closed twice", with(func(s *Subject) {
			s.Open = func(testing.TB, handler.Env) handler.Handler {
				count := 0
				return fake{close: func() error {
					if count++; count > 1 {
						return errRefused
					}
					return nil
				}}
			}
		}), "it can be closed twice, and leaves no goroutine"},
		{"leaves a goroutine", with(func(s *Subject) {
			s.Open = func(testing.TB, handler.Env) handler.Handler { go func() { <-end }(); return fake{} }
		}), "it can be closed twice, and leaves no goroutine"},
	} {
		t.Run(test.defect, func(t *testing.T) {
			var found []string
			for _, r := range rules() {
				if err := r.check(t, test.subject); err != nil {
					found = append(found, r.name)
				}
			}
			if !slices.Contains(found, test.rule) {
				t.Errorf("found by %q, want %q", found, test.rule)
			}
		})
	}
}

const metricsRule = "its metrics are there from the start, and go with it"

// measured is a subject whose handler is made with a registerer.
func measured(open func(prometheus.Registerer) fake) Subject {
	s := good()
	s.Open = func(_ testing.TB, e handler.Env) handler.Handler { return open(e.Registerer) }
	return s
}

func counter(name string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "Counts."}, labels)
}

func hasDeadline(ctx context.Context) bool {
	_, ok := ctx.Deadline()
	return ok
}

// TestDeliveries looks at what the suite delivers: every kind, its payload filled, and personal data in it to look for.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	var kinds []callback.Kind
	seen := make(map[string]bool)
	for _, d := range Deliveries() {
		kinds = append(kinds, d.Callback.Kind)
		if seen[d.ID] {
			t.Errorf("delivery ID %s stands twice", d.ID)
		}
		seen[d.ID] = true
		if info, ok := callback.Lookup(string(d.Service)); !ok || !info.Carries(d.Callback.Kind) {
			t.Errorf("%s comes on %q", d.Callback.Kind, d.Service)
		}
	}
	if !slices.Equal(kinds, callback.Kinds()) {
		t.Errorf("kinds are %v", kinds)
	}
}
