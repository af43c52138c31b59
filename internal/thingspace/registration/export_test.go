package registration

import (
	"context"
	"time"
)

// SetNow gives the session another clock.
func (c *Client) SetNow(now func() time.Time) { c.tokens.now = now }

// HashQuickly makes the hash of refused log-ins cheap.
func (s *State) HashQuickly() { s.iterations = 10 }

// Update is update, for tests of the files and their locks alone.
func (s *State) Update(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error {
	return s.update(ctx, name, change)
}

// Read is read.
func (s *State) Read(name string) ([]byte, error) { return s.read(name) }
