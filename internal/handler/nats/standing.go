package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// standing is what is known of the connection, and of the subjects that are published to. Its lock is held for moments only, and while the client's
// is held, never the other way.
type standing struct {
	log    *zap.Logger
	config *Config

	mu      sync.Mutex
	dialled *link // the last that was begun
	link    *link // that is up, or nil
	cause   error // why none is up
	secrets error // why a secret could not be read
	mute    error // why answers do not come in
	blind   bool  // JetStream may not be asked
	asking  context.CancelFunc
	unsaid  bool // the handler is closing, and what ends with it is no trouble

	subjects map[string]*subject
}

// subject is one that is published to.
type subject struct {
	stream  string // that takes it, as far as is known
	trouble error
	denial  *denial
}

// denial tells those who wait for an answer that none will come.
type denial struct {
	told chan struct{}
	err  error // set before told is closed
}

func newStanding(log *zap.Logger, c *Config) *standing {
	return &standing{log: log, config: c, subjects: make(map[string]*subject)}
}

// err is the trouble that there is.
func (s *standing) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble()
}

func (s *standing) trouble() error {
	if s.link == nil {
		return s.absence()
	}
	if s.mute != nil {
		return s.mute
	}
	for _, name := range slices.Sorted(maps.Keys(s.subjects)) {
		if err := s.subjects[name].trouble; err != nil {
			return err
		}
	}
	return nil
}

// absence is why there is no connection; nil until that is known.
func (s *standing) absence() error {
	cause := s.cause
	if s.secrets != nil {
		cause = s.secrets
	}
	if cause == nil {
		return nil
	}
	servers := make([]string, len(s.config.Servers))
	for i, server := range s.config.Servers {
		servers[i] = address(server)
	}
	return s.config.adviseConnection(fmt.Errorf("%w at %s: %w", errDisconnected, strings.Join(servers, ", "), cause))
}

// change makes a change, and logs when trouble begins with it or ends.
func (s *standing) change(what func()) {
	s.mu.Lock()
	before := s.trouble()
	what()
	after, unsaid := s.trouble(), s.unsaid
	s.mu.Unlock()
	switch {
	case unsaid:
	case before == nil && after != nil:
		s.log.Warn("not ready: deliveries wait until this is mended", zap.Error(after))
	case before != nil && after == nil:
		s.log.Info("ready again")
	}
}

func (s *standing) closing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaid = true
}

func (s *standing) begun(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled = l
}

// up notes that the link dialled last is a connection; false if it is known, or has ended already.
func (s *standing) up() (news bool) {
	s.change(func() {
		l := s.dialled
		if l == nil || l == s.link {
			return
		}
		select {
		case <-l.down:
		default:
			s.link, s.cause, s.mute, s.blind, news = l, nil, nil, false, true
		}
	})
	return news
}

// lost notes that a link has ended, and tells whether it was up.
func (s *standing) lost(l *link) (wasUp bool) {
	s.change(func() {
		if wasUp = s.link == l; wasUp {
			s.link, s.cause = nil, errors.New("the connection was lost")
			s.hush()
		}
	})
	return wasUp
}

// because notes why there is no connection. What says more is kept over what says less.
func (s *standing) because(err error) {
	if err == nil {
		return
	}
	vague := errors.Is(err, io.EOF) || errors.Is(err, nats.ErrNoServers)
	s.change(func() {
		if s.cause == nil || !vague {
			s.cause = err
		}
	})
}

// secret passes a secret on. Without it the server refuses, and that it could not be read is why.
func (s *standing) secret(text string, err error) string {
	s.change(func() {
		s.secrets = nil
		if err != nil {
			s.secrets = fmt.Errorf("auth.%w", err)
		}
	})
	return text
}

// at is the subject of that name, known from now on. The lock is held.
func (s *standing) at(name string) *subject {
	if s.subjects[name] == nil {
		s.subjects[name] = &subject{denial: &denial{told: make(chan struct{})}}
	}
	return s.subjects[name]
}

// begin tells what to watch while a message to the subject is on its way, or why it need not be sent.
func (s *standing) begin(name string) (*link, *denial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.at(name)
	if s.link == nil {
		if err := s.absence(); err != nil {
			return nil, nil, err
		}
		return nil, nil, errDisconnected
	}
	return s.link, at.denial, s.mute
}

// landed notes what became of a message.
func (s *standing) landed(name string, err error) {
	switch reasonOf(err) {
	case disconnected, tooLarge: // which tell nothing of the subject
		return
	}
	s.change(func() { s.at(name).trouble = err })
}

// violated takes that the server has refused to let this user publish or subscribe.
func (s *standing) violated(err error) {
	publish := regexp.MustCompile(`(?i)publish to "([^"]+)"`).FindStringSubmatch(err.Error())
	s.change(func() {
		switch {
		case publish == nil: // it is the answers that are subscribed to, and nothing else
			s.mute = s.config.advise(fmt.Errorf("answers cannot be received: %w", err), "")
			for _, at := range s.subjects {
				at.deny(s.mute)
			}
			s.hush()
		case strings.HasPrefix(publish[1], "$JS."):
			s.blind = true
			s.hush()
		case s.subjects[publish[1]] != nil:
			s.subjects[publish[1]].deny(err)
		}
	})
}

func (at *subject) deny(err error) {
	at.denial.err = err
	close(at.denial.told)
	at.denial = &denial{told: make(chan struct{})}
}

// hush ends the questions under way, which nobody will answer. The lock is held.
func (s *standing) hush() {
	if s.asking != nil {
		s.asking()
	}
}

// asks tells how to end the questions that begin now; false if JetStream may not be asked.
func (s *standing) asks(end context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = end
	return !s.blind
}

// questions are the subjects to ask JetStream about.
func (s *standing) questions() (names []string, connected, mute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.subjects)), s.link != nil, s.mute != nil
}

// found takes what JetStream says about a subject: the stream that takes it, or an error. A subject that has a stream can be published to, as far as
// that shows: what a message was refused for is only mended by one that is not.
func (s *standing) found(name, stream string, err error) {
	if err == nil && s.config.Stream != "" && stream != s.config.Stream {
		err = &jetstream.APIError{Code: 400, ErrorCode: otherStream, Description: "expected stream does not match"}
	}
	if known := reasonOf(err); err != nil && known != noStream && known != wrongStream && !errors.Is(err, errNoAck) {
		return // nothing is known
	}
	s.change(func() {
		at := s.at(name)
		at.stream = stream
		was := reasonOf(at.trouble)
		switch {
		case err != nil:
			at.trouble = s.config.advise(fmt.Errorf("subject %s: %w", name, err), name)
		case was == noStream, was == wrongStream, was == timedOut, errors.Is(at.trouble, errNoAck):
			at.trouble = nil
		}
	})
}
