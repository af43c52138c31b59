package postgres_test

import (
	"context"
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
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/counterpart"

	"github.com/jackc/pgx/v5"
)

// server is a real PostgreSQL, with a socket in its folder and a TLS listener on loopback.
type server struct {
	bin, dir string
	owner    *syscall.Credential // nil: whoever runs the tests
	port     int

	authority []byte       // of the server's certificate, and of those of clients
	client    *certificate // of the user certified

	process *exec.Cmd
	log     *os.File
}

const password = "correct horse battery staple"

// shared is the server that most tests use, each with a schema of its own. Those that stop theirs copy its data.
var shared struct {
	once   sync.Once
	server *server
	err    error
}

var errNoPostgreSQL = errors.New("no PostgreSQL")

func TestMain(m *testing.M) {
	code := m.Run()
	if s := shared.server; s != nil {
		if err := errors.Join(s.stop(syscall.SIGINT), os.RemoveAll(s.dir)); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// sharedServer is started by the first test that wants it.
func sharedServer(t testing.TB) *server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = newServer() })
	if errors.Is(shared.err, errNoPostgreSQL) {
		counterpart.Missing(t, "postgres", "that rows reach a real table, once each")
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// copyOf starts a server of the test's own, which it may stop, with the data of the shared one as it was made.
func copyOf(t testing.TB, of *server) *server {
	t.Helper()
	s, err := (&server{bin: of.bin, owner: of.owner}).withFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.stop(syscall.SIGINT), os.RemoveAll(s.dir)); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(of.dir, "new"), filepath.Join(s.dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// binaries finds the folder of the server's programs.
func binaries() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is well formed
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		found = append(found, filepath.Join(strings.TrimSpace(string(out)), "initdb"))
	}
	for i := len(found) - 1; i >= 0; i-- {
		if _, err := os.Stat(found[i]); err == nil {
			return filepath.Dir(found[i])
		}
	}
	return ""
}

func newServer() (*server, error) {
	bin := binaries()
	if bin == "" {
		return nil, errNoPostgreSQL
	}
	s, err := (&server{bin: bin, owner: unprivileged()}).withFolder()
	if err != nil {
		return nil, err
	}
	secret := filepath.Join(s.dir, "secret")
	if err := s.write(secret, []byte(password+"\n")); err != nil {
		return nil, err
	}
	fresh := filepath.Join(s.dir, "new")
	if out, err := s.command("initdb", "-D", fresh, "-U", "admin", "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	root := newCertificate("authority", nil)
	leaf := newCertificate("localhost", root)
	s.authority, s.client = root.pem, newCertificate("certified", root)
	hba := "local all admin trust\nlocal all all scram-sha-256\nhostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
	for name, text := range map[string][]byte{"pg_hba.conf": []byte(hba), "server.crt": leaf.pem, "server.key": leaf.key(), "root.crt": root.pem} {
		if err := s.write(filepath.Join(fresh, name), text); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("cp", "-a", fresh, filepath.Join(s.dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	if err := s.start(); err != nil {
		return s, err
	}
	c, err := pgx.Connect(context.Background(), s.admin())
	if err != nil {
		return s, err
	}
	_, err = c.Exec(context.Background(), "CREATE ROLE certified LOGIN")
	return s, errors.Join(err, c.Close(context.Background()))
}

// unprivileged is who a server runs as that root starts, for PostgreSQL refuses to run as root.
func unprivileged() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

// withFolder gives the server a folder that it can reach, which t.TempDir is not: its parent is for the test's user alone. Its name is short,
// for the socket is in it.
func (s *server) withFolder() (*server, error) {
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s.dir = dir
	return s, s.give(dir)
}

func (s *server) give(path string) error {
	if s.owner == nil {
		return nil
	}
	return os.Chown(path, int(s.owner.Uid), int(s.owner.Gid))
}

func (s *server) write(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return s.give(path)
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGINT}
	return c
}

// start starts the server and returns when it answers. The first time it finds itself a port.
func (s *server) start() error {
	var problem error
	for range 5 {
		if s.port == 0 || s.process == nil && problem != nil {
			port, err := freePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		if problem = s.startOnce(); problem == nil {
			return nil
		}
	}
	return problem
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (s *server) startOnce() error {
	var err error
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return err
	}
	s.process = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "ssl=on", "-c", "ssl_ca_file=root.crt", "-c", "fsync=off", "-c", "max_connections=60", "-c", "shared_buffers=16MB", "-c", "lc_messages=C")
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = s.process.Wait() // how it ended is in its log
		close(ended)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1500 {
		select {
		case <-ended:
			text, _ := os.ReadFile(s.log.Name())
			s.process = nil
			return fmt.Errorf("postgres ended:\n%s", text)
		case <-tick.C:
		}
		if c, err := pgx.Connect(context.Background(), s.admin()); err == nil {
			return c.Close(context.Background())
		}
	}
	return errors.Join(errors.New("postgres does not answer"), s.stop(syscall.SIGQUIT))
}

// stop ends the server: SIGINT in order, SIGQUIT as a crash would.
func (s *server) stop(signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	if err := s.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	pid := filepath.Join(s.dir, "data", "postmaster.pid")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if _, err := os.Stat(pid); signal != syscall.SIGQUIT && errors.Is(err, os.ErrNotExist) || s.process.Process.Signal(syscall.Signal(0)) != nil {
			s.process = nil
			return s.log.Close()
		}
		<-tick.C
	}
	return errors.New("postgres does not end")
}

// admin is a DSN of the owner, on the socket. It is for tests alone.
func (s *server) admin() string {
	return fmt.Sprintf("host=%s port=%d user=admin dbname=postgres sslmode=disable passfile=/dev/null", s.dir, s.port)
}

// socket is a DSN as a configuration has it.
func (s *server) socket(user string) string {
	return fmt.Sprintf("postgres://%s@/postgres?host=%s&port=%d", user, url.QueryEscape(s.dir), s.port)
}

// tcp is another, over TLS.
func (s *server) tcp(user, host, settings string) string {
	return fmt.Sprintf("postgres://%s@%s:%d/postgres?%s", user, host, s.port, settings)
}

// certificate is one, with its key.
type certificate struct {
	template *x509.Certificate
	private  *ecdsa.PrivateKey
	pem      []byte
}

// newCertificate makes the certificate of a name by an authority, or an authority of its own.
func newCertificate(name string, by *certificate) *certificate {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &certificate{private: private, template: &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: by == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}}
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c.template, by.template, &private.PublicKey, by.private)
	if err != nil {
		panic(err)
	}
	c.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return c
}

func (c *certificate) key() []byte {
	der, err := x509.MarshalECPrivateKey(c.private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// file writes the certificate into a file.
func (c *certificate) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(path, c.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
