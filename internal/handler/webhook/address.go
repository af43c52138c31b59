package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// refused is an address that nothing is sent to. It is no secret.
type refused struct {
	addr netip.Addr
	why  string
}

func (e *refused) Error() string {
	return fmt.Sprintf("%s is %s, where no event is ever sent", e.addr, e.why)
}

// control sees each address right before it is dialled, after all looking up of names, so that neither a name that changes its address nor a
// redirect gets past it.
func control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	return allowed(at.Addr())
}

// allowed refuses what is no endpoint's address, and where a machine learns its own credentials. Private addresses and loopback are allowed:
// that is where in-house endpoints are.
func allowed(addr netip.Addr) error {
	plain := addr.WithZone("").Unmap() // an address with a zone is in no prefix
	for _, a := range append(embedded(plain), plain) {
		for _, p := range metadata() {
			if p.Contains(a) {
				return &refused{addr, "a metadata service of a cloud"}
			}
		}
		switch {
		case a.IsLinkLocalUnicast():
			return &refused{addr, "link-local"}
		case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return &refused{addr, "a multicast or broadcast address"}
		case a.IsUnspecified():
			return &refused{addr, "no host's address"}
		}
	}
	return nil
}

// metadata are the services that tell a machine its credentials and have no link-local address: those of AWS and Google over IPv6, Alibaba,
// Azure and Oracle.
func metadata() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("fd20:ce::254/128"),
		netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("192.0.0.192/32"),
	}
}

// embedded are the IPv4 addresses that a gateway makes of an IPv6 address: NAT64, 6to4, and the old IPv4-compatible form.
func embedded(addr netip.Addr) (list []netip.Addr) {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	last, sixth := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[2:6]))
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(addr) {
		list = append(list, last)
	}
	if netip.MustParsePrefix("2002::/16").Contains(addr) {
		list = append(list, sixth)
	}
	if netip.MustParsePrefix("::/96").Contains(addr) && !addr.IsLoopback() && !addr.IsUnspecified() {
		list = append(list, last)
	}
	return list
}
