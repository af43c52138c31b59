package thingspace

// Published is what the schema sees of a message.
func Published(m *Message) string { return m.published() }

// MaxItems is the most members that lists may have in one message.
const MaxItems = maxItems
