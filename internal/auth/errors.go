package auth

import "errors"

// The classes of refusal. They are for the caller to wrap in its answer: neither says what would have been right.
var (
	// ErrCredentials says that no pair of the service is that of the callback.
	ErrCredentials = errors.New("user name and password match no configured pair")
	// ErrNetwork says that the source address is not allowed, or could not be told.
	ErrNetwork = errors.New("source address not allowed")
)

// Problem is one thing wrong with a configuration, or, among warnings, one that is seldom meant.
type Problem struct {
	// Path is the place within the section: "allow[3]", "[2].id"; empty for the section itself.
	Path    string
	Message string
}

func (p Problem) Error() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// join makes one error of all problems; errors.As and Unwrap() []error give them back.
func join(problems []Problem) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}
