package platform

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// DefaultListen is where a simulator listens. Its URL for SOAP clients is http://ADDRESS/api/v2.
const DefaultListen = "127.0.0.1:28300"

// Serve answers on l and runs until ctx ends. What is being sent is broken off then; calls under way are answered.
func (s *Simulator) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    zap.NewStdLog(s.log),
	}
	running.Go(func() { _ = s.Run(ctx) }) // it has no error
	served := make(chan error, 1)
	running.Go(func() { served <- server.Serve(l) })
	select {
	case err := <-served:
		return fmt.Errorf("simulator: %w", err)
	case <-ctx.Done():
	}
	const patience = time.Second
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if server.Shutdown(within) != nil {
		_ = server.Close() // of connections on which nothing was asked, or whose client does not read
	}
	return nil
}

// LogIns counts the attempts to log in.
func (s *Simulator) LogIns() LogIns { return s.sessions.logIns() }

// SMSQueues counts the texts that wait for StartSmsCallback.
func (s *Simulator) SMSQueues() []SMSQueue { return s.sms.counts() }

// SendSMS has a device of an account, of the first if none is named, send a text, and reports whether the listener acknowledged it. Otherwise it waits for
// StartSmsCallback.
func (s *Simulator) SendSMS(ctx context.Context, m SMS) (delivered bool, err error) {
	m.Account = cmp.Or(m.Account, s.options.Accounts[0].Name)
	if !slices.ContainsFunc(s.options.Accounts, func(a Account) bool { return a.Name == m.Account }) {
		return false, fmt.Errorf("there is no account %q", shorten(m.Account))
	}
	message, err := m.message()
	if err != nil {
		return false, err
	}
	return s.deviceSMS(ctx, m.Account, message), nil
}
