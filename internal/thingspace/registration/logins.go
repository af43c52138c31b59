package registration

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrLogInRefused is a log-in that the platform refused, now or before.
var ErrLogInRefused = errors.New("the platform refused the log-in")

// loginsFile holds the log-ins that the platform refused.
const loginsFile = "logins.json"

// refusals are the content of loginsFile.
type refusals struct {
	Version int           `json:"version"`
	Users   []refusedUser `json:"users"`
}

// refusedUser is a user of a platform with the passwords that were refused.
type refusedUser struct {
	URL        string    `json:"url"`
	Username   string    `json:"username"`
	Salt       []byte    `json:"salt"`
	Iterations int       `json:"iterations"`
	Refused    []refused `json:"refused"`
}

type refused struct {
	Hash []byte    `json:"hash"`
	At   time.Time `json:"at"`
	Code string    `json:"code"`
}

const (
	version        = 1
	hashIterations = 600_000   // of PBKDF2 with SHA-256: a fraction of a second, and only for a user who was refused
	mostIterations = 5_000_000 // that a file may ask for
	mostRefused    = 16        // passwords of one user
	mostUsers      = 256
)

// hash is a slow digest of a log-in, which only the same log-in yields again.
func (u refusedUser) hash(l Login) ([]byte, error) {
	text := fmt.Sprintf("%d %s %d %s %s", len(u.URL), u.URL, len(l.Username), l.Username, l.Password)
	return pbkdf2.Key(sha256.New, text, u.Salt, u.Iterations, sha256.Size)
}

func (s *State) parseRefusals(text []byte) (refusals, error) {
	if text == nil {
		return refusals{Version: version}, nil
	}
	var r refusals
	err := json.Unmarshal(text, &r)
	for _, u := range r.Users {
		if u.Iterations < 1 || u.Iterations > mostIterations {
			err = errors.Join(err, fmt.Errorf("%d iterations", u.Iterations))
		}
	}
	if err == nil && r.Version != version {
		err = fmt.Errorf("version %d, this program knows version %d", r.Version, version)
	}
	if err != nil {
		return refusals{}, fmt.Errorf("%s, which remembers refused log-ins, cannot be understood: %w: "+
			"remove it once you know that no log-in is wrong", s.path(loginsFile), err)
	}
	return r, nil
}

// user finds a user, or returns -1.
func (r refusals) user(url, username string) int {
	return slices.IndexFunc(r.Users, func(u refusedUser) bool { return u.URL == url && u.Username == username })
}

// check returns an error if this log-in was refused before.
func (s *State) check(r refusals, url string, l Login) error {
	i := r.user(url, l.Username)
	if i < 0 {
		return nil
	}
	hash, err := r.Users[i].hash(l)
	if err != nil {
		return fmt.Errorf("compare with refused log-ins: %w", err)
	}
	list := r.Users[i].Refused
	for _, old := range list {
		if hmac.Equal(old.Hash, hash) {
			return &refusedError{url, l.Username, s.path(loginsFile), old, nil}
		}
	}
	if len(list) >= mostRefused {
		return fmt.Errorf("%w: %d passwords of user %q at %s were refused: find out the right one in the portal, then remove %s",
			ErrLogInRefused, len(list), l.Username, url, s.path(loginsFile))
	}
	return nil
}

// refusedError is a log-in that was refused: now, by fault, or before.
type refusedError struct {
	url, username, path string
	refused
	fault *Fault
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%v of user %q at %s with %s at %s, and it is not tried again, for five failures lock the account: "+
		"correct uws_username or the password of the account; if this very log-in is right, since the account was unlocked or the code has another cause, "+
		"remove %s", ErrLogInRefused, e.username, e.url, e.Code, e.At.Format(time.RFC3339), e.path)
}

func (e *refusedError) Unwrap() []error {
	if e.fault == nil {
		return []error{ErrLogInRefused}
	}
	return []error{ErrLogInRefused, e.fault}
}

// add remembers a refusal, and returns it even if it cannot.
func (r *refusals) add(url string, l Login, code string, at time.Time, iterations int) (refused, error) {
	entry := refused{At: at.UTC().Truncate(time.Second), Code: code}
	i := r.user(url, l.Username)
	if i < 0 {
		if len(r.Users) >= mostUsers {
			return entry, fmt.Errorf("the log-ins of %d users are remembered as refused", mostUsers)
		}
		salt := make([]byte, 16)
		_, _ = rand.Read(salt) // does not fail: it would end the program
		r.Users = append(r.Users, refusedUser{URL: url, Username: l.Username, Salt: salt, Iterations: iterations})
		i = len(r.Users) - 1
	}
	hash, err := r.Users[i].hash(l)
	if err != nil {
		return entry, fmt.Errorf("hash log-in: %w", err)
	}
	entry.Hash = hash
	r.Users[i].Refused = append(r.Users[i].Refused, entry)
	return entry, nil
}

// trim makes room among the refusals of a user who knows the right password by now. The newest stay: another account of the configuration may
// still have one of them.
func (r *refusals) trim(url, username string) (trimmed bool) {
	i := r.user(url, username)
	if i < 0 || len(r.Users[i].Refused) <= mostRefused/2 {
		return false
	}
	list := r.Users[i].Refused
	r.Users[i].Refused = list[len(list)-mostRefused/2:]
	return true
}

func (r refusals) marshal() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write refused log-ins: %w", err)
	}
	return append(text, '\n'), nil
}

// once logs in by try, unless this log-in was refused before, and remembers whether it is. No other process logs in meanwhile, so that
// two of them with one wrong password spend one of the five failures. try returns a *Fault if the platform refuses; any other
// error, such as that of the network, is no refusal, nor is a Fault that says that the request could not be read.
func (s *State) once(ctx context.Context, url string, l Login, now func() time.Time, try func() error) error {
	var verdict error
	tried := false
	err := s.update(ctx, loginsFile, func(old []byte) ([]byte, error) {
		known, err := s.parseRefusals(old)
		if err != nil {
			return nil, err
		}
		if err := s.check(known, url, l); err != nil {
			return nil, err
		}
		if err := s.probe(loginsFile); err != nil {
			return nil, fmt.Errorf("log in: a refusal could not be recorded, so nothing is tried: %w", err)
		}
		verdict, tried = try(), true
		var fault *Fault
		switch {
		case errors.Is(verdict, ErrDeserialization): // who cannot read a log-in has not judged it
			return nil, nil
		case errors.As(verdict, &fault):
			entry, err := known.add(url, l, fault.code(), now(), s.iterations)
			verdict = &refusedError{url, l.Username, s.path(loginsFile), entry, fault}
			if err != nil {
				return nil, err
			}
		case verdict == nil && known.trim(url, l.Username):
		default:
			return nil, nil
		}
		return known.marshal()
	})
	switch {
	case !tried:
		return err
	case verdict != nil && err != nil:
		return unrecordedError{verdict, err}
	}
	return verdict // what could not be trimmed after a success is about other passwords
}

// unrecordedError is a refusal that could not be written down: only the process that saw it knows.
type unrecordedError struct{ refusal, cause error }

func (e unrecordedError) Error() string {
	return fmt.Sprintf("%v; this could not be recorded, so do not start another command before you corrected it: %v", e.refusal, e.cause)
}

func (e unrecordedError) Unwrap() []error { return []error{e.refusal, e.cause} }
