package kafka

import "time"

// AskEvery sets how often brokers are asked how the topics stand.
func (c *Config) AskEvery(d time.Duration) { c.askEvery = d }
