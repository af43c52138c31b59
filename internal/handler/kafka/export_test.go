package kafka

import "time"

// AskEvery sets how often brokers are asked how the topics stand.
func (c *Config) AskEvery(d time.Duration) { c.askEvery = d }

// GiveUp sets how long a record that no broker has taken is kept.
func (c *Config) GiveUp(d time.Duration) { c.giveUp = d }
