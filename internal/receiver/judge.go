package receiver

import (
	"context"
	"fmt"
	"net/http"

	"callbackd/internal/inbox"
	"callbackd/internal/thingspace"
)

// Engine says what judges messages by the schema.
type Engine string

const (
	Fast Engine = "fast" // the decoder, while it reads; and the second opinion on what it finds fault with
	Both Engine = "both" // the decoder and the second opinion, on every message
)

// SecondOpinion judges a message independently of the decoder. It fails on no message but when ctx ends.
type SecondOpinion interface {
	Validate(ctx context.Context, m *thingspace.Message) ([]thingspace.Violation, error)
}

// judge decides on a well-formed message: who sent it, and whether it is what the schema says. Where the decoder and the second opinion
// disagree, or the latter fails, the fault may be ours: then the message is held, and never refused.
func (in *intake) judge(r *http.Request, e *event, m *thingspace.Message) error {
	match, err := in.o.Credentials.Load().Check(in.service.Info.Service, m.Username, m.Password)
	if err != nil {
		return err
	}
	e.account, e.credential = match.Label, match.ID
	e.trace.link(r)
	validate := e.trace.step("validate")
	e.violations, e.opinion = in.validate(r.Context(), m)
	validate.end(nil)
	offSchema := len(e.violations) > 0
	if offSchema && in.service.Validation == Enforce && e.opinion == inbox.OpinionAgrees {
		return fmt.Errorf("%w: %s", errSchema, e.violations[0])
	}
	e.held = offSchema && in.service.Validation != Observe
	e.misrouted = !in.service.Info.Carries(m.Callback.Kind)
	return nil
}

// validate lists the violations, and what the second opinion is of them if it was asked. It does not fail: a message that nobody can judge
// breaks the schema as far as anybody can tell, and to refuse it would lose it.
func (in *intake) validate(ctx context.Context, m *thingspace.Message) ([]thingspace.Violation, inbox.Opinion) {
	if len(m.Violations) == 0 && in.o.Engine != Both {
		return nil, ""
	}
	second, err := in.secondOpinion(ctx, m)
	switch {
	case err != nil && len(m.Violations) == 0:
		return []thingspace.Violation{{Path: m.Root, Rule: "unjudged", Msg: "the validator failed on this message"}}, inbox.OpinionMissing
	case err != nil:
		return m.Violations, inbox.OpinionMissing
	case len(second) > 0 && len(m.Violations) == 0:
		in.o.Metrics.disagreements.Inc()
		return second, inbox.OpinionDisagrees
	case len(second) == 0 && len(m.Violations) > 0:
		in.o.Metrics.disagreements.Inc()
		return m.Violations, inbox.OpinionDisagrees
	}
	return m.Violations, inbox.OpinionAgrees
}

// secondOpinion asks for one even when the sender has gone, for the message has arrived.
func (in *intake) secondOpinion(ctx context.Context, m *thingspace.Message) (violations []thingspace.Violation, err error) {
	defer func() {
		if p := recover(); p != nil {
			in.logPanic("panic while validating", p)
			err = errPanic
		}
		if err != nil {
			in.counters.unjudged.Inc()
		}
	}()
	return in.o.SecondOpinion.Validate(context.WithoutCancel(ctx), m)
}
