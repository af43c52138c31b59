// Package webhook is the handler type "webhook": it posts each callback to an endpoint, as a CloudEvents 1.0 event that is signed as Standard
// Webhooks 1.0 has it.
//
//	Handle --> settings (files, read again when they change) --> sign --> POST --> verdict
//	                                                                       |
//	                                             each address is looked at before it is dialled
//
// The promise: a delivery is done when the endpoint has answered 2xx, and 410 alone buries it. The ID of a delivery is the webhook-id of all
// its attempts. An event goes to no other host than the configured one, and to no address where a machine learns its credentials.
//
// The limits: HTTP/1.1 is spoken; the answer's body is not looked at; a redirect is followed on the same host, where it keeps the POST, three
// times at most; no proxy is used. How often and how fast it is tried again is the dispatcher's matter, and so is the breaker.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"callbackd/internal/handler"

	"go.uber.org/zap"
)

// sender posts events. It is safe for concurrent use.
type sender struct {
	config  *Config
	files   []string
	log     *zap.Logger
	metrics *metrics
	reach   handler.Readiness // of the endpoint

	mu       sync.Mutex
	settings *settings // nil once closed
	stamps   []os.FileInfo
	fault    error // why the files as they are now are not used
}

func open(c *Config, env handler.Env) (handler.Handler, error) {
	h := &sender{config: c, files: c.files(), log: env.Log, reach: handler.Readiness{Log: env.Log}}
	h.stamps = stamps(h.files) // before they are read, so that no change is missed
	var err error
	if h.settings, err = load(c); err != nil {
		return nil, err
	}
	if h.metrics, err = register(env); err != nil {
		return nil, err
	}
	env.WarnOfPublicSecrets(c)
	return h, nil
}

// Format hides what the files hold.
func (h *sender) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "webhook(not printed)") }

// Handle implements [handler.Handler].
func (h *sender) Handle(ctx context.Context, d *handler.Delivery) error {
	s, err := h.current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := h.request(ctx, s, d)
	if err != nil {
		return err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		h.metrics.answered(0, err)
		err = explain(ctx, err)
		if !errors.Is(err, context.Canceled) {
			h.reach.Note(err)
		}
		return err
	}
	h.metrics.answered(answer.StatusCode, nil)
	discard(answer.Body, cancel)
	err = verdict(answer, time.Now())
	if isWrongDoor(answer.StatusCode) {
		h.reach.Note(err)
	} else {
		h.reach.Note(nil)
	}
	return err
}

// request is the event as it is posted.
func (h *sender) request(ctx context.Context, s *settings, d *handler.Delivery) (*http.Request, error) {
	header, body, err := h.config.Mode.message(d.Event())
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.config.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("url: is none that can be posted to")
	}
	maps.Copy(request.Header, s.header)
	maps.Copy(request.Header, header)
	// It is not sent. It tells the client that a POST may be sent again at once when the endpoint closes a connection that was idle.
	request.Header["Idempotency-Key"] = nil
	if parent := handler.TraceParent(ctx); parent != "" {
		request.Header.Set("traceparent", parent)
	}
	now := time.Now()
	request.Header.Set("webhook-id", d.ID)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	if len(s.secrets) > 0 {
		request.Header.Set("webhook-signature", sign(s.secrets, d.ID, now, body))
	}
	return request, nil
}

// discard reads the rest of an answer, so that the connection can be used again, unless that takes long.
func discard(body io.ReadCloser, cancel context.CancelFunc) {
	const (
		most    = 64 << 10
		longest = 500 * time.Millisecond
	)
	timer := time.AfterFunc(longest, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, most) // the status was the answer
	_ = body.Close()
}

// current are the settings as the files are now. If those cannot be used, the settings from before are.
func (h *sender) current() (*settings, error) {
	now := stamps(h.files)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settings == nil {
		return nil, errors.New("the handler is closed")
	}
	changed := !sameStamps(now, h.stamps)
	if !changed && h.fault == nil {
		return h.settings, nil
	}
	h.stamps = now
	loaded, err := load(h.config)
	if err != nil {
		if changed {
			h.log.Error("cannot use a file that has changed; what it held before goes on being used", zap.Error(err))
		}
		h.fault = fmt.Errorf("a file has changed and cannot be used, so what it held before is: %w", err)
		h.metrics.outdated.Set(1)
		return h.settings, nil
	}
	h.settings.client.CloseIdleConnections()
	h.settings, h.fault = loaded, nil
	h.metrics.outdated.Set(0)
	h.log.Info("files have changed and are used from now on")
	return h.settings, nil
}

// Ready implements [handler.Readier]. What the endpoint says of single events, the attempts tell.
func (h *sender) Ready() error {
	if err := h.reach.Ready(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault
}

// Close implements [handler.Handler].
func (h *sender) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settings == nil {
		return nil
	}
	h.settings.client.CloseIdleConnections()
	h.settings = nil
	h.metrics.unregister()
	return nil
}
