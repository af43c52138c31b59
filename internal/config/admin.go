package config

import "regexp"

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
		d.at(at, Fatal, "%s", err)
	case len(token) < shortestToken:
		d.at(at, Fatal, "%s holds a token of less than %d characters, which can be guessed: `openssl rand -hex 32` makes one", a.TokenFile, shortestToken)
	case !bearerToken.MatchString(token):
		d.at(at, Fatal, "%s holds characters that an Authorization header cannot: `openssl rand -hex 32` makes a token", a.TokenFile)
	case othersRead(a.TokenFile):
		d.at(at, Warning, "%s can be read by everybody on this machine: chmod 600", a.TokenFile)
	}
	a.Token = Secret{token}
}

// validate looks at the listener for operators.
func (a *Admin) validate(d *decoder) {
	host, _, err := splitAddress(a.Listen)
	switch {
	case err != nil:
		d.at("admin.listen", Fatal, "%s", err)
	case a.TokenFile != "" && !ip(host).IsLoopback():
		d.at("admin.token_file", Warning, "admin.listen is not on loopback, and speaks plain HTTP: whoever listens on the way reads the token")
	}
}
