package handler

import (
	"errors"
	"time"
)

// Permanent marks an error that no further attempt can mend: the callback is at fault, not the destination. The text stays that of
// err, and errors.Is and errors.As see through the mark. The mark counts wherever it stands in an error's chain, and it wins over
// [RetryAfter]. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent reports whether err, or one that it wraps, was marked by [Permanent].
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// RetryAfter marks an error after which the next attempt has to wait for d at least, and a day at most. It takes no attempt away and
// adds none. Like [Permanent] it leaves the text and the chain of err as they are. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, d}
}

type retryAfterError struct {
	err   error
	after time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryDelay is the wait that err asks for by [RetryAfter], the outermost first; 0 if it asks for none.
func RetryDelay(err error) time.Duration {
	var r *retryAfterError
	if errors.As(err, &r) {
		return max(r.after, 0)
	}
	return 0
}
