package app

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/receiver"
)

// sockets are those that were bound.
type sockets []net.Listener

func (s *sockets) add(l net.Listener) { *s = append(*s, l) }

func (s *sockets) close() error {
	var errs []error
	for _, l := range *s {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close socket: %w", err))
		}
	}
	return errors.Join(errs...)
}

// listen binds every address that systemd has not bound already or, with an error that tells all that cannot be bound, is done with.
// Nothing is accepted yet.
func (a *App) listen(bound *sockets) (listeners []receiver.Listener, admin net.Listener, err error) {
	if a.passed, err = receivePassed(a.o.Sockets); err != nil {
		return nil, nil, err
	}
	defer func() { a.passed.left(a.log) }()
	a.addresses.Services = make(map[callback.Service]net.Addr)
	var errs []error
	at := make(map[string]int) // the index into listeners of each address
	for _, info := range callback.Catalogue() {
		s := a.c.Services[string(info.Service)]
		if s == nil {
			continue
		}
		i, shared := at[s.Listen]
		if !shared || strings.HasSuffix(s.Listen, ":0") { // a port of its own each time
			l, err := a.listener(bound, "services."+string(info.Service), s)
			if err != nil {
				errs = append(errs, err)
			}
			i = len(listeners)
			at[s.Listen] = i
			listeners = append(listeners, l)
		}
		listeners[i].Services = append(listeners[i].Services, receivedService(info, s))
		if l := listeners[i].Listener; l != nil {
			a.addresses.Services[info.Service] = l.Addr()
		}
	}
	if admin, err = a.bind(bound, "admin.listen", a.c.Admin.Listen); err != nil {
		errs = append(errs, err)
	} else {
		a.addresses.Admin = admin.Addr()
	}
	return listeners, admin, errors.Join(errs...)
}

func receivedService(info callback.Info, s *config.Service) receiver.Service {
	return receiver.Service{Info: info, Validation: s.Validation, Path: s.Path, PublicURL: s.PublicURL}
}

func (a *App) listener(bound *sockets, key string, s *config.Service) (l receiver.Listener, err error) {
	if s.TLS != nil {
		l.TLS = a.certificates.serve(strings.TrimPrefix(key, "services."), s.TLS)
	}
	l.Listener, err = a.bind(bound, key+".listen", s.Listen)
	return l, err
}

// bind opens one socket, or takes that which was passed for it. Its error names the line of the configuration, and what to do.
func (a *App) bind(bound *sockets, key, address string) (net.Listener, error) {
	l, err := a.passed.take(a.socketNames(key, address), address)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", a.c.Place(key), key, err)
	}
	if l == nil {
		l, err = net.Listen("tcp", address)
	}
	if err == nil {
		bound.add(l)
		return l, nil
	}
	return nil, fmt.Errorf("%s: %s: %w: %s", a.c.Place(key), key, err, BindAdvice(err, address))
}

// BindAdvice is what to do about an address that cannot be bound.
func BindAdvice(err error, address string) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		return fmt.Sprintf("another program has the port, which `ss -ltnp sport = :%s` shows: stop it, or write another port", port)
	case errors.Is(err, syscall.EACCES):
		return "a port below 1024 takes the capability CAP_NET_BIND_SERVICE; or write one above, and set public_url to what maps to it"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has the address: write 0.0.0.0, or one that `ip address` shows"
	}
	return "write an address that this machine has, such as 0.0.0.0:28204"
}
