package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/handler/nats"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
)

const password = "s3cret-Pa55"

// key makes a key of a kind, and tells its public half and its seed.
func key(t testing.TB, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, string(secret)
}

func sign(t testing.TB, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	text, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decentralized is the configuration of a server whose users have credentials of JWT and seed, and makes such.
func decentralized(t testing.TB) (configuration string, credentials func() string) {
	t.Helper()
	operatorKey, operatorPublic, _ := key(t, nkeys.CreateOperator)
	accountKey, accountPublic, _ := key(t, nkeys.CreateAccount)
	_, systemPublic, _ := key(t, nkeys.CreateAccount)
	account := jwt.NewAccountClaims(accountPublic)
	account.Limits.DiskStorage, account.Limits.MemoryStorage = 1<<30, 1<<30
	configuration = fmt.Sprintf("operator: %q\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %q, %s: %q }\n",
		sign(t, jwt.NewOperatorClaims(operatorPublic), operatorKey), systemPublic,
		accountPublic, sign(t, account, operatorKey), systemPublic, sign(t, jwt.NewAccountClaims(systemPublic), operatorKey))
	return configuration, func() string {
		_, public, seed := key(t, nkeys.CreateUser)
		text, err := jwt.FormatUserConfig(sign(t, jwt.NewUserClaims(public), accountKey), []byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestEachWayToLogIn(t *testing.T) {
	t.Parallel()
	const users = "authorization { users = [{user: callbackd, password: \"" + password + "\"}] }"
	const token = "authorization { token: \"" + password + "\" }"
	_, public, seed := key(t, nkeys.CreateUser)
	_, _, otherSeed := key(t, nkeys.CreateUser)
	decentral, credentials := decentralized(t)
	_, strangers := decentralized(t)
	file := func(text string) string { return write(t, "secret", text) }
	for _, test := range []struct {
		rule, configuration string
		right, wrong        *nats.Auth
		advice              string // on the wrong one
	}{
		{"user and password", users, &nats.Auth{Username: "callbackd", PasswordFile: file(password + "\r\n")},
			&nats.Auth{Username: "callbackd", PasswordFile: file("not the " + password)}, "see to auth.username and auth.password_file"},
		{"token", token, &nats.Auth{TokenFile: file("\ufeff" + password + "\n")}, &nats.Auth{TokenFile: file("not the " + password)}, "see to auth.token_file"},
		{"nkey", "authorization { users = [{nkey: " + public + "}] }", &nats.Auth{NkeyFile: file(seed + "\n")}, &nats.Auth{NkeyFile: file(otherSeed)},
			"make the user of auth.nkey_file known to the servers"},
		{"credentials", decentral, &nats.Auth{CredsFile: file(credentials())}, &nats.Auth{CredsFile: file(strangers())}, "see to auth.creds_file"},
		{"nobody", users, &nats.Auth{Username: "callbackd", PasswordFile: file(password)}, nil, "tell them by auth"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.configuration)
			config := configured(s.ClientURL())
			config.Auth = test.wrong
			h := open(t, config)
			untilReady(t, h, test.advice)
			err := h.Handle(t.Context(), numbered(1))
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.advice) {
				t.Errorf("verdict is %v, want a retry with %q", err, test.advice)
			}
			for _, said := range []error{err, ready(h)} {
				if text := fmt.Sprint(said); strings.Contains(text, password) || strings.Contains(text, otherSeed) {
					t.Errorf("a secret is in %q", text)
				}
			}
			config = configured(s.ClientURL())
			config.Auth = test.right
			h = open(t, config)
			if err := h.Handle(t.Context(), numbered(1)); err == nil || !strings.Contains(err.Error(), "create one") {
				t.Errorf("with the right secret: %v, want that there is no stream", err)
			}
		})
	}
}

func TestASecretThatIsMendedIsTakenWithoutARestart(t *testing.T) {
	t.Parallel()
	s := serve(t, "authorization { users = [{user: callbackd, password: \""+password+"\"}] }")
	js := operator(t, s, client.UserInfo("callbackd", password))
	create(t, js, nil)
	file := write(t, "password", "not the "+password)
	config := configured(s.ClientURL())
	config.Auth = &nats.Auth{Username: "callbackd", PasswordFile: file}
	h := open(t, config)
	untilReady(t, h, "see to auth.username and auth.password_file")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	untilReady(t, h, "auth.password_file: "+file+": there is no such file: write it, or mend the path")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	untilReady(t, h, "")
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
}

// limited is the configuration of a server whose user has but the rights given.
func limited(rights string) string {
	return fmt.Sprintf("authorization { users = [{user: root, password: root}, {user: callbackd, password: %q, permissions: {%s}}] }", password, rights)
}

func TestWithoutTheRightADeliveryFailsBeforeItsTimeOut(t *testing.T) {
	t.Parallel()
	const inbox, all = `subscribe: "_INBOX.>"`, `publish: "callbacks.>", subscribe: "_INBOX.>"`
	for _, test := range []struct{ rule, rights, want string }{
		{"to publish", `publish: "other", ` + inbox, `Permissions Violation for Publish to "callbacks.usage"`},
		{"to receive answers", `publish: ["callbacks.>", "$JS.API.>"], subscribe: "other"`, "answers cannot be received: nats: permissions violation"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			store := fmt.Sprintf("\nlisten: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\n", t.TempDir())
			s := serve(t, limited(test.rights)+store)
			create(t, operator(t, s, client.UserInfo("root", "root")), nil)
			config := configured(s.ClientURL())
			config.Auth = &nats.Auth{Username: "callbackd", PasswordFile: write(t, "password", password)}
			h := open(t, config)
			for range 2 {
				err := h.Handle(t.Context(), numbered(1))
				if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want) ||
					!strings.Contains(err.Error(), "give this user the right to publish to callbacks.usage, and to subscribe to _INBOX.>") {
					t.Fatalf("verdict is %v, want a retry with %q", err, test.want)
				}
			}
			if err := ready(h); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ready says %v", err)
			}
			grant(t, s, limited(all)+store)
			if err := deliver(t.Context(), h, numbered(1)); err != nil { // without the right to ask JetStream
				t.Errorf("with the right: %v", err)
			}
			untilReady(t, h, "")
		})
	}
}

// grant makes a server take another configuration while it runs.
func grant(t testing.TB, s *server.Server, configuration string) {
	t.Helper()
	opts, err := server.ProcessConfigFile(write(t, "nats.conf", configuration))
	if err != nil {
		t.Fatal(err)
	}
	opts.ConfigFile, opts.NoSigs, opts.NoLog = "", true, true
	if err := s.ReloadOptions(opts); err != nil {
		t.Fatal(err)
	}
}

// authority issues certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.make(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) make(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: "a test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file() string {
	return write(a.t, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})))
}

// issue makes the files of a certificate for loopback.
func (a *authority) issue() (certFile, keyFile string) {
	a.t.Helper()
	cert, key := a.make(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return write(a.t, "tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))),
		write(a.t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue()
	otherCert, otherKey := theirs.issue()
	secure := serve(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", certFile, keyFile, ours.file()))
	create(t, operator(t, secure, client.RootCAs(ours.file()), client.ClientCert(certFile, keyFile)), nil)
	plain, _ := served(t)
	address := secure.Addr().String()
	for _, test := range []struct {
		rule, server string
		tls          *handler.TLS
		want         string // of the error; empty: done
	}{
		{"own authority and certificate", "nats://" + address, &handler.TLS{CAFile: ours.file(), CertFile: certFile, KeyFile: keyFile}, ""},
		{"as the server's address asks for", "tls://" + address, &handler.TLS{CAFile: ours.file(), CertFile: certFile, KeyFile: keyFile}, ""},
		{"a server of another authority", "nats://" + address, &handler.TLS{CAFile: theirs.file(), CertFile: certFile, KeyFile: keyFile}, "see to tls.ca_file"},
		{"the system's authorities", "nats://" + address, &handler.TLS{}, "see to tls.ca_file"},
		{"no certificate where one is asked for", "nats://" + address, &handler.TLS{CAFile: ours.file()}, "tls: certificate required"},
		{"a certificate of another authority", "nats://" + address, &handler.TLS{CAFile: ours.file(), CertFile: otherCert, KeyFile: otherKey}, "tls: "},
		{"a server that asks for TLS unasked", "nats://" + address, nil, "see to tls.ca_file"},
		{"a server without TLS", plain.ClientURL(), &handler.TLS{CAFile: ours.file()}, "the server has no TLS"},
		{"an address that asks for it of a server without TLS", "tls://" + plain.Addr().String(), nil, "the server has no TLS"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			config := configured(test.server)
			config.TLS = test.tls
			h := open(t, config)
			if test.want == "" {
				if err := h.Handle(t.Context(), numbered(1)); err != nil {
					t.Error(err)
				}
				return
			}
			untilReady(t, h, test.want)
			if err := h.Handle(t.Context(), numbered(1)); err == nil || handler.IsPermanent(err) {
				t.Errorf("verdict is %v, want a retry", err)
			}
		})
	}
}

func TestACertificateThatIsRenewedIsTakenWithoutARestart(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue()
	s := serve(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", certFile, keyFile, ours.file()))
	create(t, operator(t, s, client.RootCAs(ours.file()), client.ClientCert(certFile, keyFile)), nil)
	config := configured(s.ClientURL())
	outdatedCert, outdatedKey := theirs.issue()
	config.TLS = &handler.TLS{CAFile: theirs.file(), CertFile: outdatedCert, KeyFile: outdatedKey}
	h := open(t, config)
	untilReady(t, h, "see to tls.ca_file")
	for from, to := range map[string]string{certFile: outdatedCert, keyFile: outdatedKey, ours.file(): config.TLS.CAFile} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	untilReady(t, h, "")
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrongWithAFile(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certFile, keyFile := a.issue()
	_, otherKey := a.issue()
	_, _, accountSeed := key(t, nkeys.CreateAccount)
	missing := filepath.Join(t.TempDir(), "missing")
	user := func(path string) *nats.Auth { return &nats.Auth{Username: "u", PasswordFile: path} }
	for _, test := range []struct {
		rule string
		tls  *handler.TLS
		auth *nats.Auth
		want string
	}{
		{"a password file that is not there", nil, user(missing), "auth.password_file: " + missing + ": there is no such file: write it, or mend the path"},
		{"a password file that is a folder", nil, user(filepath.Dir(missing)), "is not a file"},
		{"an empty password file", nil, user(write(t, "p", "\n")), "is empty: write the secret into it"},
		{"a password of two lines", nil, user(write(t, "p", password+"\n"+password+"\n")), "has several lines"},
		{"a password file without end", nil, user(write(t, "p", strings.Repeat(password, 1<<17))), "is larger than 1 MiB"},
		{"a token file that is not there", nil, &nats.Auth{TokenFile: missing}, "auth.token_file: "},
		{"a seed that is none", nil, &nats.Auth{NkeyFile: write(t, "n", password)}, "holds no seed of an nkey, which begins with SU"},
		{"the seed of an account", nil, &nats.Auth{NkeyFile: write(t, "n", accountSeed)}, "holds the seed of something else than a user"},
		{"credentials that are none", nil, &nats.Auth{CredsFile: write(t, "c", password)}, "auth.creds_file: "},
		{"credentials that are not there", nil, &nats.Auth{CredsFile: missing}, "auth.creds_file: " + missing + ": there is no such file"},
		{"authorities that are none", &handler.TLS{CAFile: write(t, "ca", password)}, nil, "tls.ca_file: "},
		{"a certificate that is none", &handler.TLS{CertFile: write(t, "c", password), KeyFile: keyFile}, nil, "tls.cert_file: "},
		{"the key of another certificate", &handler.TLS{CertFile: certFile, KeyFile: otherKey}, nil, "private key does not match"},
		{"a key that is not there", &handler.TLS{CertFile: certFile, KeyFile: missing}, nil, "tls.key_file: "},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			config := configured("nats://127.0.0.1:1")
			config.TLS, config.Auth = test.tls, test.auth
			env := environment()
			_, err := config.Open(t.Context(), env)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), accountSeed) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if families, err := env.Registerer.(*prometheus.Registry).Gather(); err != nil || len(families) > 0 {
				t.Errorf("%d metrics are left (%v)", len(families), err)
			}
		})
	}
}

func TestASecretThatANetworkSeesIsWarnedOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule, server string
		change       func(*nats.Config)
		warned       bool
	}{
		{"a password to a name", "nats://nats.invalid", func(*nats.Config) {}, true},
		{"a password to an address", "nats://192.0.2.1:4222", func(*nats.Config) {}, true},
		{"a token", "nats://nats.invalid", func(c *nats.Config) { c.Auth = &nats.Auth{TokenFile: "/t"} }, true},
		{"loopback", "nats://127.0.0.1:1", func(*nats.Config) {}, false},
		{"localhost", "nats://localhost", func(*nats.Config) {}, false},
		{"loopback of IPv6", "nats://[::1]:1", func(*nats.Config) {}, false},
		{"TLS", "nats://nats.invalid", func(c *nats.Config) { c.TLS = &handler.TLS{} }, false},
		{"TLS by the address", "tls://nats.invalid", func(*nats.Config) {}, false},
		{"an nkey", "nats://nats.invalid", func(c *nats.Config) { c.Auth = &nats.Auth{NkeyFile: "/n"} }, false},
		{"nobody", "nats://nats.invalid", func(c *nats.Config) { c.Auth = nil }, false},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			config := configured(test.server)
			config.Auth = &nats.Auth{Username: "u", PasswordFile: "/p"}
			test.change(config)
			if problems := config.Validate(); len(problems) > 0 {
				t.Fatal(problems)
			}
			if warnings := config.Warnings(); len(warnings) > 0 != test.warned {
				t.Errorf("warnings are %v", warnings)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		change func(*nats.Config)
		want   string
	}{
		{"nothing but what is required", func(*nats.Config) {}, ""},
		{"everything", func(c *nats.Config) {
			c.Servers = []string{"nats://nats-1.example.com", "tls://[2001:db8::1]:4222"}
			c.Subject, c.Stream, c.Mode = "a.{service}_{kind}.{account}", "A-b_1", nats.Binary
			c.TLS, c.Auth = &handler.TLS{}, &nats.Auth{Username: "u", PasswordFile: "/p"}
		}, ""},
		{"no servers", func(c *nats.Config) { c.Servers = nil }, "servers: missing"},
		{"a server without a scheme", func(c *nats.Config) { c.Servers = []string{"nats://a", "b:4222"} }, "servers[1]: is not nats://HOST:PORT"},
		{"a server over a web socket", func(c *nats.Config) { c.Servers = []string{"ws://a"} }, "servers[0]: is not nats://HOST:PORT"},
		{"a server without a host", func(c *nats.Config) { c.Servers = []string{"nats://:4222"} }, "servers[0]: is not nats://HOST:PORT"},
		{"a password in a server", func(c *nats.Config) { c.Servers = []string{"nats://u:" + password + "@a"} }, "servers[0]: has a user in it"},
		{"a token in a server", func(c *nats.Config) { c.Servers = []string{"nats://" + password + "@a"} }, "servers[0]: has a user in it"},
		{"a broken password in a server", func(c *nats.Config) { c.Servers = []string{"nats://u:" + password + "%@a"} }, "servers[0]: is not nats://HOST:PORT"},
		{"two servers in one", func(c *nats.Config) { c.Servers = []string{"nats://a,nats://b"} }, "servers[0]: "},
		{"a path", func(c *nats.Config) { c.Servers = []string{"nats://a/b"} }, "servers[0]: has more to it"},
		{"port 0", func(c *nats.Config) { c.Servers = []string{"nats://a:0"} }, "servers[0]: has no port"},
		{"no subject", func(c *nats.Config) { c.Subject = "" }, "subject: missing"},
		{"an unknown word", func(c *nats.Config) { c.Subject = "a.{device}" }, "subject: {service}, {kind} and {account} are the words"},
		{"half a word", func(c *nats.Config) { c.Subject = "a.{kind" }, "subject: {service}, {kind} and {account} are the words"},
		{"a wildcard", func(c *nats.Config) { c.Subject = "a.*" }, "subject: * and > are for those who subscribe"},
		{"a space", func(c *nats.Config) { c.Subject = "a b" }, "subject: the tokens of a subject"},
		{"a subject of the system", func(c *nats.Config) { c.Subject = "$JS.API.INFO" }, "subject: the tokens of a subject"},
		{"an empty token", func(c *nats.Config) { c.Subject = "a..{kind}" }, "subject: there is nothing between two dots"},
		{"a dot at the end", func(c *nats.Config) { c.Subject = "a." }, "subject: there is nothing between two dots"},
		{"where answers go to", func(c *nats.Config) { c.Subject = "_INBOX.a" }, "subject: _INBOX"},
		{"a long subject", func(c *nats.Config) { c.Subject = strings.Repeat("a", 256) }, "subject: can come to more than 255"},
		{"a subject that may come to be long", func(c *nats.Config) { c.Subject = strings.Repeat("{account}", 4) }, "subject: can come to more than 255"},
		{"a stream with a dot", func(c *nats.Config) { c.Stream = "a.b" }, "stream: is no name of a stream"},
		{"a mode that is none", func(c *nats.Config) { c.Mode = "batch" }, "mode: must be structured or binary"},
		{"a certificate without its key", func(c *nats.Config) { c.TLS = &handler.TLS{CertFile: "/c"} }, "tls: cert_file and key_file go together"},
		{"auth without anything", func(c *nats.Config) { c.Auth = &nats.Auth{} }, "auth: give one of"},
		{"two ways to log in", func(c *nats.Config) { c.Auth = &nats.Auth{CredsFile: "/c", TokenFile: "/t"} }, "auth: give one of"},
		{"a user without a password", func(c *nats.Config) { c.Auth = &nats.Auth{Username: "u"} }, "auth.password_file: missing"},
		{"a password without a user", func(c *nats.Config) { c.Auth = &nats.Auth{PasswordFile: "/p"} }, "auth.username: missing"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			c := configured("nats://127.0.0.1:4222")
			test.change(c)
			problems := c.Validate()
			text := fmt.Sprint(errors.Join(problems...))
			switch {
			case test.want == "" && len(problems) > 0, test.want != "" && (len(problems) != 1 || !strings.HasPrefix(text, test.want)):
				t.Errorf("problems are %v, want %q", problems, test.want)
			case strings.Contains(text, password):
				t.Errorf("a secret is in %q", text)
			}
		})
	}
}

func TestPathsAreThoseOfAllFiles(t *testing.T) {
	t.Parallel()
	c := &nats.Config{TLS: &handler.TLS{CAFile: "a", CertFile: "b", KeyFile: "c"}, Auth: &nats.Auth{CredsFile: "d", NkeyFile: "e", PasswordFile: "f", TokenFile: "g"}}
	var got []string
	for key, path := range c.Paths() {
		got = append(got, *path+"="+key)
	}
	slices.Sort(got)
	want := "[a=tls.ca_file b=tls.cert_file c=tls.key_file d=auth.creds_file e=auth.nkey_file f=auth.password_file g=auth.token_file]"
	if text := fmt.Sprint(got); text != want {
		t.Errorf("paths are %s, want %s", text, want)
	}
	if paths := (&nats.Config{}).Paths(); len(paths) != 0 {
		t.Errorf("paths of nothing are %v", paths)
	}
}

// A stream is looked for as the user may: one that may not ask finds out by its deliveries.
func TestAUserWhoMayNotAskJetStreamIsReadyAgainByADelivery(t *testing.T) {
	t.Parallel()
	s := serve(t, limited(`publish: "callbacks.>", subscribe: "_INBOX.>"`))
	js := operator(t, s, client.UserInfo("root", "root"))
	config := configured(s.ClientURL())
	config.Auth = &nats.Auth{Username: "callbackd", PasswordFile: write(t, "password", password)}
	h := open(t, config)
	if err := h.Handle(t.Context(), numbered(1)); err == nil || !strings.Contains(err.Error(), "create one") {
		t.Fatalf("verdict is %v", err)
	}
	create(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 2000 })
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	if err := ready(h); err != nil {
		t.Errorf("ready says %v", err)
	}
	large := numbered(2)
	large.Callback.Usage.Source = strings.Repeat("x", 3000)
	if err := h.Handle(t.Context(), large); !handler.IsPermanent(err) || !strings.Contains(err.Error(), "that is more than the max_msg_size of its stream") {
		t.Errorf("verdict is %v", err)
	}
	consume(t, js, 1)
}
