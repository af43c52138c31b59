package firewall

import "errors"

// What [Render] refuses.
var (
	// ErrFormat is a format that is not among [Formats].
	ErrFormat = errors.New("no such format")
	// ErrPublishedOnly is a network.allow whose only addresses are the published ones.
	ErrPublishedOnly = errors.New("network.allow names thingspace alone: those addresses are published for the REST sender, and the SOAP sender may " +
		"have others: add the list of your approval letter, which wins")
	// ErrNoSource is a network.allow that names nobody from another machine.
	ErrNoSource = errors.New("network.allow names no address of another machine: add the list of your approval letter, " +
		"or learn the addresses first with network.mode: observe, and no firewall")
	// ErrEveryone is a network.allow that needs no firewall.
	ErrEveryone = errors.New("network.allow admits everyone: name the platform's addresses in its place")
	// ErrNoListener is a configuration with nothing to guard.
	ErrNoListener = errors.New("every listener is on loopback, where no other machine reaches it: there is nothing to guard here; " +
		"guard the port of what stands in front of callbackd")
	// ErrNoPort is a listener whose port is not fixed.
	ErrNoPort = errors.New("listens on port 0, which is another at each start: give it a port")
)
