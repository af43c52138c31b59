package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"
)

// Account is a ThingSpace account that registers its listeners from here, and the log-in of an API user who may.
type Account struct {
	// Name is the account's at ThingSpace, such as 0212345678-00001.
	Name string `yaml:"name"`
	// Credentials is the label of the pairs that the account's callbacks carry; empty if they carry none.
	Credentials string `yaml:"credentials,omitempty"`
	// Username is the API user's. The password is in a file, or in an environment variable.
	Username     string `yaml:"uws_username"`
	PasswordFile string `yaml:"uws_password_file,omitempty"`
	PasswordEnv  string `yaml:"uws_password_env,omitempty"`

	// It is exported so that package fmt sees that it is a Secret, and read with [Account.LogIn].
	Password Secret `yaml:"-"`

	unread error // why there is no password
}

// LogIn is that of the account's API user. Receiving needs none, so that what keeps the password from being read is an error here, and
// keeps nothing from starting.
func (a Account) LogIn() (registration.Login, error) {
	if a.unread != nil {
		return registration.Login{}, fmt.Errorf("read the API user's password: %w", a.unread)
	}
	return registration.Login{Username: a.Username, Password: a.Password.Reveal()}, nil
}

// Label is what the account is called in logs and metrics, as the entries of its callbacks are.
func (a Account) Label() string {
	if a.Credentials == "" {
		return auth.Anonymous
	}
	return a.Credentials
}

// ServicesOf lists the services of the configuration that the account registers: those that a pair of its label covers.
func (c *Config) ServicesOf(a Account) []callback.Service {
	var services []callback.Service
	for _, info := range callback.Catalogue() {
		if c.Services[string(info.Service)] != nil && len(c.PairsOf(a, info.Service)) > 0 {
			services = append(services, info.Service)
		}
	}
	return services
}

// PairsOf lists the pairs that the account's callbacks of a service may carry, the newest first, which is the last that is listed. It is
// the one to register. An account without a label has an empty one.
func (c *Config) PairsOf(a Account, service callback.Service) []registration.Login {
	if a.Credentials == "" {
		return []registration.Login{{}}
	}
	return c.pairs(service, func(pair Credential) bool { return pair.Label == a.Credentials })
}

// PairsFor lists all pairs that callbacks of a service may carry, the empty one too if they may carry none.
func (c *Config) PairsFor(service callback.Service) []registration.Login {
	pairs := c.pairs(service, func(Credential) bool { return true })
	if c.AllowAnonymous {
		pairs = append(pairs, registration.Login{})
	}
	return pairs
}

func (c *Config) pairs(service callback.Service, chosen func(Credential) bool) []registration.Login {
	var pairs []registration.Login
	for _, pair := range slices.Backward(c.Credentials) {
		if chosen(pair) && (len(pair.Services) == 0 || contains(pair.Services, service)) {
			pairs = append(pairs, registration.Login{Username: pair.Username, Password: pair.Password.Reveal()})
		}
	}
	return pairs
}

// readPassword reads the password from where it is. What is missing is noted for who needs it; what cannot be a password is a problem
// for `check`.
func (a *Account) readPassword(d *decoder, path string) {
	switch {
	case a.PasswordFile != "" && a.PasswordEnv != "":
		d.at(path+".uws_password_env", Fatal, "stands beside uws_password_file: give one of the two")
	case a.PasswordFile != "":
		a.readPasswordFile(d, path+".uws_password_file")
	case a.PasswordEnv == "":
		d.at(path, Fatal, "uws_password_file is missing, or uws_password_env: one of the two says where the API user's password is")
	case !environmentName.MatchString(a.PasswordEnv):
		// What stands here in a variable's place may be the password itself.
		d.at(path+".uws_password_env", Fatal, "is not the name of an environment variable, of capitals, digits and _; the password itself never stands here")
		a.PasswordEnv = ""
	default:
		a.Password.text = os.Getenv(a.PasswordEnv)
		if a.Password.IsZero() {
			a.unread = fmt.Errorf("the environment variable %s is not set: set it, or write uws_password_file in the configuration", a.PasswordEnv)
		} else if strings.ContainsAny(a.Password.text, "\r\n") {
			a.unread = fmt.Errorf("the environment variable %s has several lines: a password has one", a.PasswordEnv)
		}
	}
}

var environmentName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

func (a *Account) readPasswordFile(d *decoder, path string) {
	if d.isSpoiled(path) {
		return
	}
	password, err := d.readPasswordFile(a.PasswordFile)
	if errors.Is(err, fs.ErrPermission) { // it may well be that only who registers is to read it
		a.unread = fmt.Errorf("user %d, who runs this, may not: %w", os.Geteuid(), err)
		d.at(path, Warning, "user %d, who runs this, cannot read it, and so can neither register nor watch: %s", os.Geteuid(), err)
		return
	}
	if err != nil {
		a.unread = err
		d.at(path, Unregistrable, "%s", err)
		return
	}
	if othersRead(a.PasswordFile) {
		d.at(path, Warning, "%s can be read by everybody on this machine: chmod 600", a.PasswordFile)
	}
	a.Password.text = password
}

// accountName is generous: Verizon's own examples have ten digits, a hyphen and five digits, and others as well.
var accountName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)

func (c *Config) validateAccounts(d *decoder) {
	var labels []string
	for _, pair := range c.Credentials {
		if pair.Label != "" && !contains(labels, pair.Label) {
			labels = append(labels, pair.Label)
		}
	}
	for i, a := range c.Accounts {
		path := fmt.Sprintf("accounts[%d]", i)
		switch first := slices.IndexFunc(c.Accounts, func(other Account) bool { return other.Name == a.Name }); {
		case a.Name == "":
			d.at(path+".name", Fatal, "missing: the account's name at ThingSpace, such as 0212345678-00001")
		case !accountName.MatchString(a.Name):
			d.at(path+".name", Fatal, "%q is not the name of an account, such as 0212345678-00001", clip(a.Name))
		case first < i:
			d.at(path+".name", Fatal, "%s is the name of accounts[%d] too: list each account once", a.Name, first)
		}
		switch {
		case a.Username == "":
			d.at(path+".uws_username", Fatal, "missing: the name of the API user that registers listeners")
		case strings.ContainsFunc(a.Username, func(r rune) bool { return r < ' ' || r == 0x7f }):
			d.at(path+".uws_username", Fatal, "has a control character")
		}
		c.validateLabel(d, path, i, labels)
	}
	c.validateRegistered(d)
}

// validateLabel checks which credentials the account's callbacks carry.
func (c *Config) validateLabel(d *decoder, path string, i int, labels []string) {
	a := c.Accounts[i]
	if d.isSpoiled("credentials") {
		return
	}
	switch first := slices.IndexFunc(c.Accounts, func(other Account) bool { return other.Credentials == a.Credentials }); {
	case a.Credentials == "" && !c.AllowAnonymous:
		d.at(path, Fatal, "credentials is missing: the label of the pairs that its callbacks carry; known: %s", strings.Join(labels, ", "))
	case a.Credentials != "" && len(labels) == 0:
		d.at(path+".credentials", Fatal, "no pair bears the label %q: list one under credentials, or leave this out if callbacks are to carry none",
			clip(a.Credentials))
		d.spoil(path + ".credentials")
	case a.Credentials != "" && !contains(labels, a.Credentials):
		d.at(path+".credentials", Fatal, "%s", unknownWord("label", a.Credentials, labels))
		d.spoil(path + ".credentials")
	case first < i:
		d.at(path, Warning, "has the credentials of accounts[%d]: callbacks of the two cannot be told apart, nor can metrics; better give it a label of its own", first)
	}
	for j, pair := range c.Credentials {
		if pair.Username == a.Username && a.Username != "" && pair.Password == a.Password && !a.Password.IsZero() {
			d.at(fmt.Sprintf("credentials[%d]", j), Warning, "is the log-in of %s: every callback carries it in clear, so choose another pair", path)
		}
	}
}

// validateRegistered warns of what looks registered and is not. Without accounts, listeners are registered by other means.
func (c *Config) validateRegistered(d *decoder) {
	if len(c.Accounts) == 0 || d.isSpoiled("accounts") || d.isSpoiled("credentials") || d.isSpoiled("services") {
		return
	}
	registered := make(map[callback.Service]bool)
	for i, a := range c.Accounts {
		some := false
		for _, s := range c.ServicesOf(a) {
			if c.Services[string(s)].PublicURL != "" {
				registered[s], some = true, true
			}
		}
		if !some {
			d.at(fmt.Sprintf("accounts[%d]", i), Warning, "has no service to register: set public_url on a service that its credentials cover")
		}
	}
	for _, name := range sortedKeys(c.Services) {
		if c.Services[name].PublicURL != "" && !registered[callback.Service(name)] {
			d.at("services."+name+".public_url", Warning, "no account registers it: the credentials of none cover the service")
		}
	}
}
