package registration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"callbackd/internal/thingspace/internal/uws/session"
)

const (
	sessionService = "SessionService"
	// idle is how long a session may rest. The platform ends it after 20 minutes.
	idle = 19 * time.Minute
	// farewell bounds the log-out, which nobody should have to wait for.
	farewell = 5 * time.Second
)

// tokens logs in when a token is needed, and shares it between calls. Both secrets stand behind pointers, as the tokens do in the Client:
// a print with a verb that does not fit follows one pointer, and no more.
type tokens struct {
	login   *Login
	state   *State
	url     string
	timeout time.Duration // of one request
	now     func() time.Time
	turn    chan struct{} // holds one value while somebody reads or changes what follows
	current *string       // nil: not logged in
	used    time.Time
	refused error // a refusal that could not be written down
}

// get returns a token other than stale, which the platform did not take.
func (t *tokens) get(ctx context.Context, stale string, logIn func(context.Context, Login) (string, error)) (string, error) {
	// Others may be logging in: one in this process, one in another.
	ctx, cancel := context.WithTimeoutCause(ctx, 3*t.timeout, timeoutError{"session", 3 * t.timeout})
	defer cancel()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the log-in: %w", context.Cause(ctx))
	}
	if t.current != nil && *t.current != stale && t.now().Sub(t.used) < idle {
		t.used = t.now()
		return *t.current, nil
	}
	t.current = nil
	if t.refused != nil {
		return "", t.refused
	}
	started := t.now()
	var token string
	err := t.state.once(ctx, t.url, *t.login, t.now, func() (err error) {
		token, err = logIn(ctx, *t.login)
		return err
	})
	var unrecorded unrecordedError
	if errors.As(err, &unrecorded) {
		t.refused = unrecorded.refusal
	}
	if err != nil {
		return "", err
	}
	t.current, t.used = &token, started
	return token, nil
}

// take returns the token, or nil, and forgets it.
func (t *tokens) take() *string {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	token := t.current
	t.current = nil
	return token
}

// logIn asks for a token.
func (c *Client) logIn(ctx context.Context, l Login) (string, error) {
	message := &session.LogIn{Input: &session.LogInRequest{Username: l.Username, Password: l.Password}}
	a, err := c.exchange(ctx, request{sessionService, message}, "", mostAnswer, l.Password)
	if err != nil {
		return "", err
	}
	token, err := a.sessionToken()
	if err != nil {
		return "", fmt.Errorf("LogIn: %w", err)
	}
	return token, nil
}

// Close logs out, if logged in, and lets go of the connections. It tries for a few seconds even if ctx has ended, for a session that is
// left open is one that somebody could use. The Client may be used again: it then logs in again.
func (c *Client) Close(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	token := c.tokens.take()
	if token == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_, err := c.exchange(ctx, request{sessionService, &session.LogOut{}}, *token, mostAnswer)
	if errors.Is(err, ErrNoSession) {
		return nil
	}
	return err
}
