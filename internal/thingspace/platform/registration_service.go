package platform

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"callbackd/internal/callback"
)

// sessionService lets callers in.
func (s *Simulator) sessionService() soapService {
	return soapService{"SessionService", "session.wsdl", []operation{
		{name: "LogIn", members: []string{"Username", "Password"}, open: true, run: s.logIn},
		{name: "LogOut", run: s.logOut},
	}}
}

func (s *Simulator) logIn(_ context.Context, c *call) (answer, error) {
	token, err := s.sessions.logIn(Credentials{c.input["Username"], c.input["Password"]}, s.options.Now())
	if err != nil {
		return answer{}, err
	}
	return answer{token: token, output: member("SessionToken", token)}, nil
}

func (s *Simulator) logOut(_ context.Context, c *call) (answer, error) {
	s.sessions.logOut(c.token)
	return answer{}, nil
}

// registrationService keeps the registrations.
func (s *Simulator) registrationService() soapService {
	return soapService{"CallbackRegistrationService", "callback-registration.wsdl", []operation{
		{name: "RegisterCallback", members: []string{"AccountName", "ServiceName", "Url", "Username", "Password"}, run: s.registerCallback},
		{name: "GetCallbackRegistrations", members: []string{"AccountName"}, run: s.callbackRegistrations},
		{name: "UnregisterCallback", members: []string{"AccountName", "ServiceName"}, run: s.unregisterCallback},
	}}
}

// account is the account that a call names, if its session may manage it.
func (s *Simulator) account(c *call) (string, error) {
	name := c.input["AccountName"]
	if name == "" {
		return "", &soapFault{"INPUT_INVALID.Account.NotDefined", "The account name is missing."}
	}
	for _, a := range s.options.Accounts {
		if a.Name == name && a.Login.Username == c.user {
			return name, nil
		}
	}
	return "", &soapFault{"REQUEST_FAILED.AccountNotFound", "The account was not found."}
}

// service is the callback service that a call names.
func service(c *call) (callback.Service, error) {
	info, ok := callback.Lookup(c.input["ServiceName"])
	if !ok {
		return "", &soapFault{"INPUT_INVALID.ServiceName.Invalid", "There is no callback service of this name."}
	}
	return info.Service, nil
}

func (s *Simulator) registerCallback(_ context.Context, c *call) (answer, error) {
	account, err := s.account(c)
	if err != nil {
		return answer{}, err
	}
	name, err := service(c)
	if err != nil {
		return answer{}, err
	}
	if err := s.checkURL(c.input["Url"]); err != nil {
		return answer{}, err
	}
	for _, member := range []string{"Username", "Password"} {
		const most = 40
		if utf8.RuneCountInString(c.input[member]) > most {
			return answer{}, &soapFault{"INPUT_INVALID." + member + ".TooLong", member + " is longer than 40 characters."}
		}
	}
	n := Registration{Account: account, Service: name, URL: c.input["Url"], Credentials: Credentials{c.input["Username"], c.input["Password"]}}
	if err := s.registry.register(n, s.options.Now()); err != nil {
		return answer{}, &soapFault{"REQUEST_FAILED.CallbackAlreadyRegistered", err.Error()}
	}
	return registered(n), nil
}

// registered names a registration.
func registered(n Registration) answer {
	return answer{output: member("AccountName", n.Account) + member("ServiceName", string(n.Service))}
}

// checkURL wants a URL that the platform can send to.
func (s *Simulator) checkURL(text string) error {
	const most = 2000
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(text) > most || strings.ContainsAny(text, " \t\r\n") {
		return &soapFault{"INPUT_INVALID.Url.Invalid", "The URL has to be an absolute one of http or https, without a user name."}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	number, err := strconv.Atoi(port)
	if err != nil || number < 1 || number > 65535 {
		return &soapFault{"INPUT_INVALID.Url.Invalid", "The port of the URL is none."}
	}
	if callback.RegistrablePort(number) || isLoopback(u.Hostname()) && !s.options.StrictPorts {
		return nil
	}
	return &soapFault{"INPUT_INVALID.Url.PortNotAllowed", "The port of the URL is none of 80, 443, 9001-9006, 28200-28220, 50551-50559."}
}

// isLoopback reports whether a host is this machine by its name.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// isLoopbackAddress is isLoopback of a host that may have a port.
func isLoopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return isLoopback(host)
}

func (s *Simulator) callbackRegistrations(_ context.Context, c *call) (answer, error) {
	account, err := s.account(c)
	if err != nil {
		return answer{}, err
	}
	var b strings.Builder
	for _, n := range s.registry.list(account) {
		b.WriteString(`<a:CallbackRegistration>` + member("AccountName", n.Account) + member("ServiceName", string(n.Service)) +
			member("Url", n.URL) + member("Username", n.Credentials.Username))
		if s.options.ListPasswords {
			b.WriteString(member("Password", n.Credentials.Password))
		}
		b.WriteString(`</a:CallbackRegistration>`)
	}
	if b.Len() == 0 {
		return answer{output: `<a:CallbackRegistrations/>`}, nil
	}
	return answer{output: `<a:CallbackRegistrations>` + b.String() + `</a:CallbackRegistrations>`}, nil
}

func (s *Simulator) unregisterCallback(_ context.Context, c *call) (answer, error) {
	account, err := s.account(c)
	if err != nil {
		return answer{}, err
	}
	name, err := service(c)
	if err != nil {
		return answer{}, err
	}
	if err := s.registry.unregister(account, name, s.options.Now()); errors.Is(err, errNotHeld) {
		return answer{}, &soapFault{"REQUEST_FAILED.CallbackNotRegistered", err.Error()}
	}
	return registered(Registration{Account: account, Service: name}), nil
}
