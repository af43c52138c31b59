package app

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"callbackd/internal/callback"

	"go.uber.org/zap"
)

// passed are sockets that systemd has bound. It holds them while callbackd restarts, so that whoever connects meanwhile waits instead of
// being refused. The name of each is that of the service it is for, or [adminSocket].
type passed struct {
	sockets []socket
	taken   []string
}

type socket struct {
	name string
	net.Listener
}

// adminSocket is the name of the socket for the admin listener.
const adminSocket = "admin"

// receivePassed takes the sockets over. Closing what it returns leaves systemd's own open.
func receivePassed(files []*os.File) (*passed, error) {
	p := &passed{}
	for _, f := range files {
		l, err := net.FileListener(f)
		_ = f.Close() // l has a descriptor of its own
		if err != nil {
			p.close()
			return nil, fmt.Errorf("%q, which systemd passed, is no socket to accept connections on: its socket unit needs ListenStream=: %w", f.Name(), err)
		}
		p.sockets = append(p.sockets, socket{f.Name(), l})
	}
	return p, nil
}

// take finds the socket that has one of the names; it is nil if none was passed.
func (p *passed) take(names []string, address string) (net.Listener, error) {
	named := func(s socket) bool { return slices.Contains(names, s.name) }
	i := slices.IndexFunc(p.sockets, func(s socket) bool { return named(s) && boundTo(s.Addr(), address) })
	if i < 0 {
		if i = slices.IndexFunc(p.sockets, named); i < 0 {
			return nil, nil
		}
		s := p.sockets[i]
		return nil, fmt.Errorf("systemd holds the socket %s on %s, and the configuration says %s: write the same as ListenStream= of the socket unit "+
			"and here, then restart both", s.name, s.Addr(), address)
	}
	s := p.sockets[i]
	p.sockets = slices.Delete(p.sockets, i, i+1)
	p.taken = append(p.taken, s.name)
	return s.Listener, nil
}

// boundTo reports whether a socket is where the configuration wants it. Port 0 leaves the port open, and every way to write all addresses
// is the same.
func boundTo(addr net.Addr, address string) bool {
	have, ok := addr.(*net.TCPAddr)
	want, err := net.ResolveTCPAddr("tcp", address)
	if !ok || err != nil {
		return false
	}
	unspecified := func(a *net.TCPAddr) bool { return len(a.IP) == 0 || a.IP.IsUnspecified() }
	return (want.Port == 0 || have.Port == want.Port) &&
		(unspecified(have) && unspecified(want) || plain(have) == plain(want))
}

func plain(a *net.TCPAddr) netip.Addr { return a.AddrPort().Addr().Unmap() }

// left tells of the sockets that nothing was configured for. Who connects to one is never answered, for systemd holds it all the same.
func (p *passed) left(log *zap.Logger) {
	for _, s := range p.sockets {
		log.Error("systemd passed a socket that no configured listener has the name of, and nobody is answered there: disable its socket unit, "+
			"or set its FileDescriptorName= to the service it is for, or to "+adminSocket,
			zap.String("socket", s.name), zap.Stringer("address", s.Addr()))
	}
	p.close()
}

func (p *passed) close() {
	for _, s := range p.sockets {
		_ = s.Close() // nothing was done with it
	}
	p.sockets = nil
}

// socketNames are the names that the socket for a listener may have: of each service that shares its address.
func (a *App) socketNames(key, address string) []string {
	if key == adminSocket+".listen" {
		return []string{adminSocket}
	}
	var names []string
	for _, info := range callback.Catalogue() {
		name := string(info.Service)
		if s := a.c.Services[name]; s != nil && (key == "services."+name+".listen" || s.Listen == address && !strings.HasSuffix(address, ":0")) {
			names = append(names, name)
		}
	}
	return names
}
