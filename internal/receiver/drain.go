package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// parting is how long a drain goes on serving the connections that it finds, each until its next answer, which says that it ends. To
	// close a connection at once would lose what its sender is just writing on it: HTTP has no way to tell him in time, and he cannot know
	// whether it was taken. One on which nothing came for so long is most likely nobody's any more.
	parting = 500 * time.Millisecond
	// silence is how long it then waits for the first requests of connections that were opened in the last moment. Clients and health checks
	// open connections that they never use, and net/http would wait 5 s for each, in which nothing is acknowledged.
	silence = 500 * time.Millisecond
)

// drain ends every server without losing a request. New connections are taken while the old ones part, so that the time in which none is
// accepted is as short as can be; once none is, those that are there get to send their request, which net/http drops when it shuts down.
// accepted returns when the last of the accepted connections is known.
func (r *Receiver) drain(limit time.Duration, accepted func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r.wait(ctx, parting, func(c *connections) bool { return c.any(true) })
	for _, s := range r.servers {
		_ = s.listener.Close() // the server closes it again
	}
	accepted()
	r.wait(ctx, silence, func(c *connections) bool { return c.any(false) })
	errs := make([]error, len(r.servers))
	var closing sync.WaitGroup
	for i, s := range r.servers {
		s.connections.closeSilent()
		closing.Go(func() {
			if err := s.http.Shutdown(ctx); err != nil {
				errs[i] = errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.http.Close())
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}

// wait waits until the connections of no server are any more as they should not be, or the time for that is over.
func (r *Receiver) wait(ctx context.Context, limit time.Duration, still func(*connections) bool) {
	const look = 5 * time.Millisecond
	over := time.NewTimer(limit)
	defer over.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for slices.ContainsFunc(r.servers, func(s *server) bool { return still(s.connections) }) {
		select {
		case <-tick.C:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// lastAnswer has the answer that is about to be written end its connection, if the receiver drains.
func (r *Receiver) lastAnswer(w http.ResponseWriter) {
	if r.state.Load() == draining {
		w.Header().Set("Connection", "close")
	}
}
