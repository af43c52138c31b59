package nats

import "time"

// Hurry sets how long the client waits between two rounds through the servers, and how often JetStream is asked.
func (c *Config) Hurry(reconnectWait, askEvery time.Duration) {
	c.reconnectWait, c.askEvery = reconnectWait, askEvery
}
