package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"callbackd/internal/auth"
	"callbackd/internal/callback"

	"go.uber.org/zap"
)

// validateGates asks package auth, which has the rules.
func (c *Config) validateGates(d *decoder) {
	// What cannot be read may well be on loopback: one problem at a time.
	loopback := c.AllOnLoopback() || d.isSpoiled("services")
	network, err := auth.NewNetworkGate(c.Network, loopback, nil, zap.NewNop())
	d.gate("network", err)
	if network != nil {
		d.warn("network", network.Warnings())
	}
	if d.isSpoiled("allow_anonymous") {
		return
	}
	credentials, err := auth.NewCredentialGate(c.AuthCredentials(), c.AllowAnonymous, nil)
	d.gate("credentials", err)
	if credentials == nil || d.isSpoiled("credentials") {
		return
	}
	d.warn("credentials", credentials.Warnings())
	for _, name := range sortedKeys(c.Services) {
		if _, known := callback.Lookup(name); known && !credentials.Covers(callback.Service(name)) {
			d.at("services."+name, Fatal, "no credentials are valid for it, so every callback would be refused: add a pair, or the service to one")
		}
	}
}

// gate notes the problems that keep a gate from being built.
func (d *decoder) gate(section string, err error) {
	for _, e := range unjoin(err) {
		var p auth.Problem
		if errors.As(e, &p) {
			d.at(join(section, p.Path), Fatal, "%s", p.Message)
		} else {
			d.at(section, Fatal, "%s", e)
		}
	}
}

func (d *decoder) warn(section string, warnings []auth.Problem) {
	for _, p := range warnings {
		d.at(join(section, p.Path), Warning, "%s", p.Message)
	}
}

func join(section, path string) string {
	if path == "" || strings.HasPrefix(path, "[") {
		return section + path
	}
	return section + "." + path
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// AuthCredentials are the credentials as the gate takes them.
func (c *Config) AuthCredentials() []auth.Credential {
	list := make([]auth.Credential, len(c.Credentials))
	for i, cred := range c.Credentials {
		list[i] = auth.Credential{Label: cred.Label, ID: cred.ID, Username: cred.Username,
			Password: auth.NewPassword(cred.Password.Reveal()), Services: cred.Services}
	}
	return list
}

// readPassword reads the password from its file. path is that of password_file in the configuration.
func (cred *Credential) readPassword(d *decoder, path string) {
	if cred.PasswordFile == "" || d.isSpoiled(path) {
		return
	}
	bad := func(s Severity, format string, args ...any) {
		d.at(path, s, format, args...)
		d.spoil(path)
	}
	if !cred.Password.IsZero() {
		bad(Fatal, "stands beside password: give one of the two")
		return
	}
	password, err := d.readPasswordFile(cred.PasswordFile)
	if err != nil {
		bad(Unread, "%s", err)
		return
	}
	if othersRead(cred.PasswordFile) {
		d.at(path, Warning, "%s can be read by everybody on this machine: chmod 600", cred.PasswordFile)
	}
	cred.Password = Secret{password}
}

// readPasswordFile reads the one line of a file. No error of it quotes the file.
func (d *decoder) readPasswordFile(path string) (string, error) {
	return d.readSecretFile(path, "password")
}

// readSecretFile is readPasswordFile for another secret, whose name is what.
func (d *decoder) readSecretFile(path, what string) (string, error) {
	d.sources.note(path, nil) // until it is read
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: write the %s into it, or mend the path", err, what)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file: write the %s into one", path, what)
	}
	const longest = 4 << 10
	text, err := d.read(path)
	if err != nil {
		return "", err
	}
	if len(text) > longest {
		return "", fmt.Errorf("%s is larger than %s: is it the right file?", path, Bytes(longest))
	}
	// Some editors write a byte order mark before the first character, and nobody sees it.
	secret := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), "\ufeff")
	switch {
	case secret == "":
		return "", fmt.Errorf("%s is empty: write the %s into it", path, what)
	case strings.ContainsAny(secret, "\r\n"):
		return "", fmt.Errorf("%s has several lines: a %s has one", path, what)
	}
	return secret, nil
}
