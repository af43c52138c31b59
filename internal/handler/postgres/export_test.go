package postgres

import "time"

// CheckEvery sets how often a handler looks at a table that is not fit.
func (c *Config) CheckEvery(d time.Duration) { c.checkEvery = d }
