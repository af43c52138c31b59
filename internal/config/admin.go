package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/certificate"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

// bearerToken is what an Authorization header can have behind its scheme.
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// shortestToken is longer than what can be guessed over a network.
const shortestToken = 20

// readToken reads the token of the API. No problem of it quotes the file.
func (a *Admin) readToken(d *decoder) {
	const at = "admin.token_file"
	if a.TokenFile == "" || d.isSpoiled(at) {
		return
	}
	token, err := d.readSecretFile(a.TokenFile, "token")
	switch {
	case err != nil:
		d.at(at, Unread, "%s", err)
	case len(token) < shortestToken:
		d.at(at, Fatal, "%s holds a token of less than %d characters, which can be guessed: `openssl rand -hex 32` makes one", a.TokenFile, shortestToken)
	case !bearerToken.MatchString(token):
		d.at(at, Fatal, "%s holds characters that an Authorization header cannot: `openssl rand -hex 32` makes a token", a.TokenFile)
	case othersRead(a.TokenFile):
		d.at(at, Warning, "%s can be read by everybody on this machine: chmod 600", a.TokenFile)
	}
	a.Token = Secret{token}
}

// quotedValue is where an error about YAML quotes the file.
var quotedValue = regexp.MustCompile("`[^`]*`")

// readWebConfig has the toolkit judge the web-config, and notes what matters to other keys. No problem of it quotes the file.
func (a *Admin) readWebConfig(d *decoder) {
	const at = "admin.web_config_file"
	if a.WebConfigFile == "" || d.isSpoiled(at) {
		return
	}
	text, err := d.read(a.WebConfigFile) // the listener reads it again by itself: this judges it, and tells what of it matters elsewhere
	if err == nil {
		err = web.Validate(a.WebConfigFile)
	}
	var asks struct {
		TLS struct {
			Cert       string `yaml:"cert"`
			CertFile   string `yaml:"cert_file"`
			Key        string `yaml:"key"`
			KeyFile    string `yaml:"key_file"`
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
		Users map[string]string `yaml:"basic_auth_users"`
	}
	if err == nil {
		err = yaml.Unmarshal(text, &asks)
	}
	if err != nil {
		text, advice := quotedValue.ReplaceAllLiteralString(err.Error(), "a value"), ""
		if strings.HasPrefix(text, "crypto/bcrypt") {
			advice = ": basic_auth_users has bcrypt hashes, which `htpasswd -nB NAME` makes"
		}
		d.at(at, Unread, "%s: %s%s", a.WebConfigFile, strings.Join(strings.Fields(text), " "), advice)
		d.spoil(at)
		return
	}
	a.Web = admin.Web{File: a.WebConfigFile, TLS: asks.TLS.Cert+asks.TLS.CertFile != "", Users: len(asks.Users) > 0,
		Certificates: asks.TLS.ClientAuth == "RequireAndVerifyClientCert"}
	certificates, key := a.besideWebConfig(d, asks.TLS.Cert, asks.TLS.CertFile), a.besideWebConfig(d, asks.TLS.Key, asks.TLS.KeyFile)
	a.readCertificate(d, certificates, key)
	all := make(Sources)
	all.note("", slices.Concat(text, certificates, key))
	a.webText = all[""]
	if a.Web.Users && a.TokenFile != "" {
		d.at("admin.token_file", Fatal, "%s names users, and a request has one Authorization header, for a user or for the token: "+
			"ask for client certificates there in place of users, or leave the API to the control socket", a.WebConfigFile)
	}
}

// besideWebConfig is what a pair of the web-config's keys says: the text itself, or the file that has it, which is relative to the web-config.
// The toolkit has found it readable.
func (a *Admin) besideWebConfig(d *decoder, text, file string) []byte {
	if file == "" {
		return []byte(text)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(a.WebConfigFile), file)
	}
	held, err := d.read(file)
	if err != nil {
		return nil
	}
	return held
}

// readCertificate keeps the certificate of the web-config, for whoever is to know when it expires.
func (a *Admin) readCertificate(d *decoder, certificates, key []byte) {
	pair, err := certificate.New(certificates, key)
	if err != nil {
		return // there is none, or one that the toolkit takes all the same
	}
	a.certificate = pair
	for _, flaw := range pair.Flaws(time.Now(), "", nil) {
		if flaw.Kind == certificate.Expired || flaw.Kind == certificate.NotYet {
			d.at("admin.web_config_file", Warning, "%s: %s", a.WebConfigFile, flaw)
		}
	}
}

// Certificate is the one that the web-config has served; nil if it has none.
func (a *Admin) Certificate() *certificate.Pair { return a.certificate }

// validate looks at the listener for operators.
func (a *Admin) validate(d *decoder) {
	host, _, err := splitAddress(a.Listen)
	const inClear = "admin.listen is not on loopback, and speaks plain HTTP: whoever listens on the way reads the %s"
	switch {
	case err != nil:
		d.at("admin.listen", Fatal, "%s", err)
	case ip(host).IsLoopback() || a.Web.TLS:
	case a.TokenFile != "":
		d.at("admin.token_file", Warning, inClear, "token")
	case a.Web.Users:
		d.at("admin.web_config_file", Warning, inClear, "passwords")
	}
}
