package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/handler"
)

// verdict is that of an answer. 410 alone buries, for it is said on purpose; every other refusal may be an endpoint that was deployed wrong,
// which must not cost the callbacks of a day.
func verdict(answer *http.Response, now time.Time) error {
	status := answer.StatusCode
	err := fmt.Errorf("the endpoint answers %s", strings.TrimSpace(strconv.Itoa(status)+" "+http.StatusText(status)))
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status >= 300 && status <= 399:
		return fmt.Errorf("%w, a redirect that is not followed: set url to where the endpoint is now", err)
	case status == http.StatusGone:
		return handler.Permanent(fmt.Errorf("%w: it wants no more events", err))
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: look at the secret, the Authorization and the certificate that it expects, and at the clocks", err)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: look at the path of url", err)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		if after := retryAfter(answer.Header.Get("Retry-After"), now); after > 0 {
			return handler.RetryAfter(after, err)
		}
	}
	return err
}

// isWrongDoor reports whether a status tells that no event will be taken until somebody mends the configuration, here or there.
func isWrongDoor(status int) bool {
	return status >= 300 && status <= 399 || status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound
}

// retryAfter reads the header's seconds or date; 0 if there is neither.
func retryAfter(value string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), most)
	}
	return 0
}

// explain makes an error fit for the log: without the URL, whose path and query may be secrets, and without what the other side sent.
func explain(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("post event: no answer in time: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return fmt.Errorf("post event: %w", ctx.Err())
	case isSafe(err):
		return fmt.Errorf("post event: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("post event: the endpoint closed the connection without an answer")
	case quotes(err):
		return errors.New("post event: what listens there does not answer as HTTP does")
	}
	return fmt.Errorf("post event: %w", err)
}

// isSafe reports whether an error is of a kind that quotes nothing of what was sent or received.
func isSafe(err error) bool {
	var (
		network     *net.OpError
		certificate *tls.CertificateVerificationError
		invalid     x509.CertificateInvalidError
		refusal     *refused
	)
	return errors.As(err, &network) || errors.As(err, &certificate) || errors.As(err, &invalid) || errors.As(err, &refusal)
}

// quotes reports whether an error may quote what was received, which net/http puts in quotes.
func quotes(err error) bool { return strings.Contains(err.Error(), `"`) }
