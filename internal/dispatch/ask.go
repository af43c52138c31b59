package dispatch

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"callbackd/internal/handler"
)

// askLimit is how long a handler may take to say how it stands. Who asks are a probe and a scrape, which wait no longer than seconds.
const askLimit = 500 * time.Millisecond

// errNoAnswer is what a handler says that breaks its promise to tell what it knows at once.
var errNoAnswer = fmt.Errorf("it has not said for %s how it stands, which is an error in the handler", askLimit)

// asker asks a handler how it stands, and goes on without an answer: a handler that hangs must cost neither a probe, which would take its
// listeners out of service, nor a scrape. Of a handler that has not answered yet nothing is asked again.
type asker struct {
	mu    sync.Mutex
	asked *answer
}

type answer struct {
	given chan struct{}
	err   error
}

func (a *asker) ask(h handler.Readier) error {
	a.mu.Lock()
	asked := a.asked
	if asked == nil {
		asked = &answer{given: make(chan struct{})}
		a.asked = asked
		go a.await(h, asked) // ends with the answer
	}
	a.mu.Unlock()
	over := time.NewTimer(askLimit)
	defer over.Stop()
	select {
	case <-asked.given:
		return asked.err
	case <-over.C:
		return errNoAnswer
	}
}

// await gets the answer. A panic is one: its value may quote a callback, so it is not told.
func (a *asker) await(h handler.Readier, asked *answer) {
	defer func() {
		if recover() != nil {
			asked.err = errors.New("it panics when it is asked how it stands, which is an error in the handler")
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = nil
		close(asked.given)
	}()
	asked.err = h.Ready()
}
