package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/handler/kafka"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const password = "s3cret-Pa55"

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// soon is a context that ends when a delivery would long have been made.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestSASL(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []kafka.Mechanism{kafka.Plain, kafka.ScramSHA256, kafka.ScramSHA512} {
		t.Run(string(mechanism), func(t *testing.T) {
			t.Parallel()
			c := brokers(t, kfake.EnableSASL(), kfake.Superuser(string(mechanism), "callbackd", password))
			file := write(t, "password", "not the "+password+"\n")
			config := configured(c.ListenAddrs()...)
			config.SASL = &kafka.SASL{Mechanism: mechanism, Username: "callbackd", PasswordFile: file}
			h := open(t, config)
			err := h.Handle(soon(t), numbered(1))
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "connect to 127.0.0.1:") || strings.Contains(err.Error(), password) {
				t.Fatalf("with a wrong password: %v", err)
			}
			if err := ready(h); err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("with a wrong password, ready says %v", err)
			}
			if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := h.Handle(t.Context(), numbered(1)); err != nil {
				t.Fatalf("once the file has the right password: %v", err)
			}
			if err := ready(h); err != nil {
				t.Errorf("ready says %v", err)
			}
		})
	}
}

// The brokers of a test close the connection on a wrong password; real ones say what is wrong first.
func TestARefusedLogInSaysWhereToLook(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key  kmsg.Key
		err  *kerr.Error
		want string
	}{
		{kmsg.SASLAuthenticate, kerr.SaslAuthenticationFailed, "see to sasl.username and sasl.password_file"},
		{kmsg.SASLHandshake, kerr.UnsupportedSaslMechanism, "the brokers do not know sasl.mechanism"},
	} {
		t.Run(test.err.Message, func(t *testing.T) {
			t.Parallel()
			c := brokers(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "callbackd", password))
			c.Fault(kfake.Fault{Keys: []kmsg.Key{test.key}, Err: test.err, TopLevel: true, Count: -1})
			config := configured(c.ListenAddrs()...)
			config.SASL = &kafka.SASL{Mechanism: kafka.Plain, Username: "callbackd", PasswordFile: write(t, "password", password)}
			h := open(t, config)
			err := h.Handle(soon(t), numbered(1))
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), password) {
				t.Errorf("verdict is %v, want a retry with %q", err, test.want)
			}
			if err := ready(h); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ready says %v", err)
			}
		})
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
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	addresses := brokers(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})).ListenAddrs()
	otherCert, otherKey := theirs.issue()
	for _, test := range []struct {
		rule string
		tls  *handler.TLS
		want string // of the error; empty: done
	}{
		{"own authority and certificate", &handler.TLS{CAFile: ours.file(), CertFile: certFile, KeyFile: keyFile}, ""},
		{"a broker of another authority", &handler.TLS{CAFile: theirs.file(), CertFile: certFile, KeyFile: keyFile}, "see to tls.ca_file"},
		{"the system's authorities", &handler.TLS{CertFile: certFile, KeyFile: keyFile}, "see to tls.ca_file"},
		{"no certificate where one is asked for", &handler.TLS{CAFile: ours.file()}, "certificate required"},
		{"a certificate of another authority", &handler.TLS{CAFile: ours.file(), CertFile: otherCert, KeyFile: otherKey}, "tls: "},
		{"no TLS", nil, "is TLS missing?"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			config := configured(addresses...)
			config.TLS = test.tls
			h := open(t, config)
			err := h.Handle(soon(t), numbered(1))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("verdict is %v, want a retry with %q", err, test.want)
			case test.want != "" && ready(h) == nil:
				t.Error("is ready")
			}
		})
	}
}

func TestACertificateThatIsRenewedIsTakenWithoutARestart(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	c := brokers(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}))
	config := configured(c.ListenAddrs()...)
	outdated, outdatedKey := theirs.issue()
	config.TLS = &handler.TLS{CAFile: ours.file(), CertFile: outdated, KeyFile: outdatedKey}
	h := open(t, config)
	if err := h.Handle(soon(t), numbered(1)); err == nil {
		t.Fatal("a certificate of nobody's is taken")
	}
	for from, to := range map[string]string{certFile: outdated, keyFile: outdatedKey} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrongWithAFile(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certFile, keyFile := a.issue()
	_, otherKey := a.issue()
	missing := filepath.Join(t.TempDir(), "missing")
	sasl := func(path string) *kafka.SASL {
		return &kafka.SASL{Mechanism: kafka.Plain, Username: "u", PasswordFile: path}
	}
	large := strings.Repeat(password, 1<<17)
	for _, test := range []struct {
		rule string
		tls  *handler.TLS
		sasl *kafka.SASL
		want string
	}{
		{"a password file that is not there", nil, sasl(missing), "sasl.password_file: " + missing + ": there is no such file: write it, or mend the path"},
		{"a password file that is a folder", nil, sasl(filepath.Dir(missing)), "is not a file"},
		{"an empty password file", nil, sasl(write(t, "p", "\n")), "is empty: write the secret into it"},
		{"a password of two lines", nil, sasl(write(t, "p", password+"\n"+password+"\n")), "has several lines"},
		{"a password file without end", nil, sasl(write(t, "p", large)), "is larger than 1 MiB"},
		{"authorities that are none", &handler.TLS{CAFile: write(t, "ca", password)}, nil, "holds no certificate in PEM"},
		{"a certificate that is none", &handler.TLS{CertFile: write(t, "c", password), KeyFile: keyFile}, nil, "tls.cert_file: "},
		{"the key of another certificate", &handler.TLS{CertFile: certFile, KeyFile: otherKey}, nil, "private key does not match"},
		{"a key that is not there", &handler.TLS{CertFile: certFile, KeyFile: missing}, nil, "tls.key_file: "},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			config := configured("127.0.0.1:9092")
			config.TLS, config.SASL = test.tls, test.sasl
			env := environment()
			_, err := config.Open(t.Context(), env)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), password) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if families, err := env.Registerer.(*prometheus.Registry).Gather(); err != nil || len(families) > 0 {
				t.Errorf("%d metrics are left (%v)", len(families), err)
			}
		})
	}
}

func TestAPasswordThatANetworkSeesIsWarnedOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		broker string
		change func(*kafka.Config)
		warned bool
	}{
		{"kafka.invalid:9092", func(*kafka.Config) {}, true},
		{"192.0.2.1:9092", func(*kafka.Config) {}, true},
		{"127.0.0.1:1", func(*kafka.Config) {}, false},
		{"localhost:1", func(*kafka.Config) {}, false},
		{"[::1]:1", func(*kafka.Config) {}, false},
		{"kafka.invalid:9092", func(c *kafka.Config) { c.TLS = &handler.TLS{} }, false},
		{"kafka.invalid:9092", func(c *kafka.Config) { c.SASL.Mechanism = kafka.ScramSHA512 }, false},
		{"kafka.invalid:9092", func(c *kafka.Config) { c.SASL = nil }, false},
	} {
		t.Run(test.broker, func(t *testing.T) {
			t.Parallel()
			config := configured(test.broker)
			config.SASL = &kafka.SASL{Mechanism: kafka.Plain, Username: "u", PasswordFile: write(t, "p", password)}
			test.change(config)
			if warnings := config.Warnings(); len(warnings) > 0 != test.warned {
				t.Errorf("warnings are %v, want some: %t", warnings, test.warned)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		change func(*kafka.Config)
		want   string
	}{
		{"nothing but what is required", func(*kafka.Config) {}, ""},
		{"everything", func(c *kafka.Config) {
			c.Brokers = []string{"kafka-1.example.com:9093", "[2001:db8::1]:9092"}
			c.Topic, c.Compression, c.Linger, c.MaxMessageBytes = "a.{service}_{kind}-{account}", kafka.Zstd, 0, 64<<20
			c.TLS, c.SASL = &handler.TLS{}, &kafka.SASL{Mechanism: kafka.ScramSHA256, Username: "u", PasswordFile: "/p"}
		}, ""},
		{"no brokers", func(c *kafka.Config) { c.Brokers = nil }, "brokers: missing"},
		{"a broker without a port", func(c *kafka.Config) { c.Brokers = []string{"a:9092", "b"} }, "brokers[1]: is not HOST:PORT"},
		{"a broker as a URL", func(c *kafka.Config) { c.Brokers = []string{"kafka://u:p@b:9092"} }, "brokers[0]: is not HOST:PORT"},
		{"port 0", func(c *kafka.Config) { c.Brokers = []string{"b:0"} }, "brokers[0]: has no port"},
		{"no topic", func(c *kafka.Config) { c.Topic = "" }, "topic: missing"},
		{"an unknown word", func(c *kafka.Config) { c.Topic = "a.{device}" }, "topic: {service}, {kind} and {account} are the words"},
		{"half a word", func(c *kafka.Config) { c.Topic = "a.{kind" }, "topic: {service}, {kind} and {account} are the words"},
		{"a space", func(c *kafka.Config) { c.Topic = "a b" }, "topic: a topic's name has"},
		{"two dots", func(c *kafka.Config) { c.Topic = ".." }, "topic: there is no topic"},
		{"a long topic", func(c *kafka.Config) { c.Topic = strings.Repeat("a", 250) }, "topic: can come to more than the 249"},
		{"a topic that may come to be long", func(c *kafka.Config) { c.Topic = strings.Repeat("{account}", 4) }, "topic: can come to more than the 249"},
		{"no client ID", func(c *kafka.Config) { c.ClientID = "" }, "client_id: must be"},
		{"a codec that is none", func(c *kafka.Config) { c.Compression = "brotli" }, "compression: must be"},
		{"a long linger", func(c *kafka.Config) { c.Linger = time.Minute }, "linger: must be"},
		{"small messages", func(c *kafka.Config) { c.MaxMessageBytes = 1000 }, "max_message_bytes: must be"},
		{"large messages", func(c *kafka.Config) { c.MaxMessageBytes = 65 << 20 }, "max_message_bytes: must be"},
		{"a certificate without its key", func(c *kafka.Config) { c.TLS = &handler.TLS{CertFile: "/c"} }, "tls: cert_file and key_file go together"},
		{"SASL without anything", func(c *kafka.Config) { c.SASL = &kafka.SASL{} }, "sasl.mechanism: must be; sasl.username: missing; sasl.password_file: missing"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			c := configured("127.0.0.1:9092")
			test.change(c)
			problems := c.Validate()
			var wants []string
			if test.want != "" {
				wants = strings.Split(test.want, "; ")
			}
			if len(problems) != len(wants) {
				t.Fatalf("problems are %v, want %q", errors.Join(problems...), wants)
			}
			for i, want := range wants {
				if !strings.HasPrefix(problems[i].Error(), want) {
					t.Errorf("problem %q does not begin with %q", problems[i], want)
				}
			}
		})
	}
}

func TestPathsAreThoseOfAllFiles(t *testing.T) {
	t.Parallel()
	c := &kafka.Config{TLS: &handler.TLS{CAFile: "a", CertFile: "b", KeyFile: "c"}, SASL: &kafka.SASL{PasswordFile: "d"}}
	got := map[string]string{}
	for key, path := range c.Paths() {
		got[key] = *path
	}
	if text := fmt.Sprint(got); text != "map[sasl.password_file:d tls.ca_file:a tls.cert_file:b tls.key_file:c]" {
		t.Errorf("paths are %s", text)
	}
	if paths := (&kafka.Config{}).Paths(); len(paths) != 0 {
		t.Errorf("paths of nothing are %v", paths)
	}
}
