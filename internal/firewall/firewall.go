// Package firewall writes rules for firewalls that admit the platform to the callback ports, and nobody else.
//
// The promise: rules touch the callback ports alone, so that loading them locks nobody out of a machine. The tables of a host
// (nftables, iptables) refuse new connections to those ports from elsewhere, and leave every other rule and the default policy as
// they are. Those of the clouds (AWS, GCP) only admit. Loading newer rules replaces the older ones in one step.
//
// The limits: it renders, and neither loads nor reads anything. Rules for a host guard a callbackd that runs on the host itself: what
// is forwarded to a container does not pass them.
//
//	network.allow ---------> front: what the platform connects to, if that is not callbackd (clouds only)
//	network.trusted_proxies      |
//	        \-------------> receiver: callbackd's own ports. Without a proxy, network.allow is admitted here
package firewall

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"callbackd/internal/auth"
)

// Format is a kind of firewall.
type Format string

// The formats.
const (
	NFTables Format = "nftables" // a table for `nft -f`
	IPTables Format = "iptables" // chains for iptables-restore and ip6tables-restore
	AWS      Format = "aws"      // Terraform: security groups
	GCP      Format = "gcp"      // Terraform: VPC firewall rules
)

// Formats lists them.
func Formats() []Format { return []Format{NFTables, IPTables, AWS, GCP} }

// Listener is one callback service, and where it is reached.
type Listener struct {
	Service string
	Host    string // the address to listen on, as configured: an address, a name, or nothing for every address
	Port    int
	Public  int // the port of its public_url; 0: it has none, and the platform calls Port
}

// called is the port that the platform connects to.
func (l Listener) called() int { return cmp.Or(l.Public, l.Port) }

// Config is what rules are made from.
type Config struct {
	File      string // the configuration's name, for the comments
	Network   auth.Config
	Listeners []Listener
	// AcceptPublished renders a network.allow that names no address but the published ones.
	AcceptPublished bool
}

// Render writes the rules. The same configuration makes the same text. An error that wraps [ErrPublishedOnly] asks for AcceptPublished.
func Render(format Format, c Config) (string, error) {
	write := map[Format]func(*strings.Builder, *plan){NFTables: writeNFTables, IPTables: writeIPTables, AWS: writeAWS, GCP: writeGCP}[format]
	if write == nil {
		return "", fmt.Errorf("%w as %q: take one of %v", ErrFormat, format, Formats())
	}
	p, err := newPlan(c, slices.Contains([]Format{AWS, GCP}, format))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	writeHeader(&b, format, p)
	write(&b, p)
	return b.String(), nil
}
