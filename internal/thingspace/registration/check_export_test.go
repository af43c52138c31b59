package registration

import (
	"context"
	"net/netip"
)

// WithLookup has names resolved by a function instead of the system.
func (o CheckOptions) WithLookup(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) CheckOptions {
	o.lookup = lookup
	return o
}
