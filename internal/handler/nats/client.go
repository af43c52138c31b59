package nats

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"callbackd/internal/handler"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// patience is how long a server may take to answer while a connection is made.
const patience = 5 * time.Second

// options are those of the client. Its errors name the key and the file, and quote nothing of what is in it.
func (p *publisher) options(env handler.Env) ([]nats.Option, error) {
	c := p.config
	list := []nats.Option{
		nats.Name("callbackd/" + env.Name), nats.NoEcho(), nats.Timeout(patience), nats.SetCustomDialer(p), nats.SkipHostLookup(),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(c.reconnectWait), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectJitter(c.reconnectWait/10, c.reconnectWait/2),
		nats.ReconnectBufSize(-1), // what is not connected fails, and is delivered again
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(10 * time.Second), nats.ReconnectOnFlusherError(),
		nats.ConnectHandler(p.connected), nats.ReconnectHandler(p.connected),
		nats.DisconnectErrHandler(p.failed), nats.ReconnectErrHandler(p.failed),
		nats.ErrorHandler(p.told), nats.NoCallbacksAfterClientClose(),
	}
	security, err := c.security()
	if err != nil {
		return nil, err
	}
	login, err := c.Auth.option(p.state)
	if err != nil {
		return nil, fmt.Errorf("auth.%w", err)
	}
	return append(append(list, security...), login...), nil
}

// security makes the client insist on TLS. The files are read for each connection, so that what was renewed is taken without a restart.
func (c *Config) security() ([]nats.Option, error) {
	t := c.TLS
	if t == nil {
		return nil, nil
	}
	if _, err := t.Config(); err != nil {
		return nil, err
	}
	var certificate nats.TLSCertHandler
	var authorities nats.RootCAsHandler
	if t.CAFile != "" {
		authorities = t.Authorities
	}
	if t.CertFile != "" {
		certificate = func() (tls.Certificate, error) {
			pair, err := t.Certificate()
			if err != nil {
				return tls.Certificate{}, err
			}
			return *pair, nil
		}
	}
	options := []nats.Option{nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12})}
	if authorities != nil || certificate != nil {
		options = append(options, nats.ClientTLSConfig(certificate, authorities))
	}
	return options, nil
}

// option is how callbackd logs in. A file is read for each connection, so that what was changed is taken without a restart; which nkey it is stays.
func (a *Auth) option(state *standing) ([]nats.Option, error) {
	switch {
	case a == nil:
		return nil, nil
	case a.CredsFile != "":
		if _, err := a.jwt(); err != nil {
			return nil, err
		}
		if _, err := signer("creds_file", a.CredsFile)(nil); err != nil {
			return nil, err
		}
		return []nats.Option{nats.UserJWT(a.jwt, signer("creds_file", a.CredsFile))}, nil
	case a.NkeyFile != "":
		pair, err := seed("nkey_file", a.NkeyFile)
		if err != nil {
			return nil, err
		}
		defer pair.Wipe()
		public, err := pair.PublicKey()
		if err != nil || !nkeys.IsValidPublicUserKey(public) {
			return nil, fmt.Errorf("nkey_file: %s holds the seed of something else than a user: a user's begins with SU", a.NkeyFile)
		}
		return []nats.Option{nats.Nkey(public, signer("nkey_file", a.NkeyFile))}, nil
	case a.TokenFile != "":
		read := func() string { return state.secret(line("token_file", a.TokenFile)) }
		_, err := line("token_file", a.TokenFile)
		return []nats.Option{nats.TokenHandler(read)}, err
	}
	read := func() (string, string) { return a.Username, state.secret(line("password_file", a.PasswordFile)) }
	_, err := line("password_file", a.PasswordFile)
	return []nats.Option{nats.UserInfoHandler(read)}, err
}

func (a *Auth) jwt() (string, error) {
	text, err := handler.ReadFile(a.CredsFile)
	if err != nil {
		return "", fmt.Errorf("creds_file: %w", err)
	}
	defer clear(text)
	jwt, err := nkeys.ParseDecoratedJWT(text)
	if err != nil || jwt == "" {
		return "", fmt.Errorf("creds_file: %s holds no JWT of a user: write it with nsc generate creds", a.CredsFile)
	}
	return jwt, nil
}

// signer signs what a server asks for, with the seed in a file.
func signer(key, path string) nats.SignatureHandler {
	return func(nonce []byte) ([]byte, error) {
		pair, err := seed(key, path)
		if err != nil {
			return nil, err
		}
		defer pair.Wipe()
		return pair.Sign(nonce)
	}
}

func seed(key, path string) (nkeys.KeyPair, error) {
	text, err := handler.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	defer clear(text)
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s holds no seed of an nkey, which begins with SU", key, path)
	}
	return pair, nil
}

func line(key, path string) (string, error) {
	text, err := handler.ReadSecret(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

// link is a connection to a server. It tells when it has ended: the client holds its lock while it makes another, and so cannot be asked.
type link struct {
	net.Conn
	down  chan struct{}
	ended func() // closes down; once
}

// Dial implements nats.CustomDialer. Each link ends with the handler, whatever the client is about.
func (p *publisher) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.life, patience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		p.metrics.connected(false)
		p.state.because(err)
		return nil, err
	}
	l := &link{Conn: conn, down: make(chan struct{})}
	stop := context.AfterFunc(p.life, func() { _ = conn.Close() })
	l.ended = sync.OnceFunc(func() {
		stop()
		close(l.down)
		if wasUp := p.state.lost(l); !wasUp {
			p.metrics.connected(false)
			p.askSoon() // the client knows why
		}
	})
	p.state.begun(l)
	return l, nil
}

// Read ends the link with its first error, which the client may not come to look at for a while.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err != nil {
		l.ended()
	}
	return n, err
}

// Close ends the link.
func (l *link) Close() error {
	l.ended()
	return l.Conn.Close()
}
