package admin

import (
	"errors"
	"fmt"
	"net/http"
)

// Code says in one word what is wrong with a request. Programs can rely on the words: some may be added, none changes its meaning.
type Code string

// The codes, whose statuses [Code.Status] has.
const (
	BadRequest       Code = "bad_request"       // no JSON object of the operation's fields
	Unauthorized     Code = "unauthorized"      // without the token
	Forbidden        Code = "forbidden"         // not over this way in
	UnknownOperation Code = "unknown_operation" // no operation has that path
	NotFound         Code = "not_found"         // what the request names is not there
	MethodNotAllowed Code = "method_not_allowed"
	Conflict         Code = "conflict" // the replay's ID belongs to another request
	TooLarge         Code = "too_large"
	Invalid          Code = "invalid"     // what the fields say makes no sense together
	Unavailable      Code = "unavailable" // the inbox takes nothing just now, or is being closed: try again
	Internal         Code = "internal"
)

// Status is the code's HTTP status.
func (c Code) Status() int {
	switch c {
	case BadRequest:
		return http.StatusBadRequest
	case Unauthorized:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case UnknownOperation, NotFound:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case Conflict:
		return http.StatusConflict
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case Invalid:
		return http.StatusUnprocessableEntity
	case Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Error is an error of an operation, with its code. Its text is answered.
type Error struct {
	Code Code
	Err  error
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// faultOf is err as an Error; one that has no code is internal.
func faultOf(err error) *Error {
	if fault, ok := errors.AsType[*Error](err); ok {
		return &Error{fault.Code, err}
	}
	return &Error{Internal, err}
}
