package registration

import "time"

// SetNow gives the session another clock.
func (c *Client) SetNow(now func() time.Time) { c.tokens.now = now }

// HashQuickly makes the hash of refused log-ins cheap.
func (s *State) HashQuickly() { s.iterations = 10 }
