package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what was found as what is wanted")

// TestLoad reads each archive of testdata: config.yaml and the files around it, the problems that it has, and where it has an
// "effective" the configuration in effect. $DIR stands for the folder; a file whose name begins with public can be read by everybody,
// and so can a configuration whose comment says so.
// $TYPES stands for the handler types that there are, so that a new one changes no case.
// Besides, there are the certificates and keys a, b and expired.
func TestLoad(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) < 110 {
		t.Fatalf("%d cases: %v", len(paths), err)
	}
	pairs := keyPairs(t)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive := readArchive(t, path)
			dir := t.TempDir()
			for name, text := range pairs {
				write(t, dir, name, text)
			}
			for _, f := range archive.Files {
				write(t, dir, f.Name, strings.ReplaceAll(string(f.Data), "$DIR", dir))
			}
			configuration := filepath.Join(dir, "config.yaml")
			if strings.Contains(string(archive.Comment), "everybody reads") {
				if err := os.Chmod(configuration, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c, problems, err := config.Load(configuration, builtin.Types())
			if (err != nil) != (problems.Worst() >= config.Unread) {
				t.Errorf("error %v with problems\n%s", err, lines(problems))
			}
			if problems.Worst() >= config.Unread && c != nil {
				t.Error("a configuration that nothing can start with was returned")
			}
			compare(t, path, archive, "problems", strings.NewReplacer(dir, "$DIR", typeNames(), "$TYPES").Replace(lines(problems)))
			if file(archive, "effective") != nil && c != nil {
				text, err := c.Effective()
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(text, "uws-s3cret") {
					t.Errorf("the password of an account is shown:\n%s", text)
				}
				compare(t, path, archive, "effective", strings.ReplaceAll(text, dir, "$DIR"))
			}
			if c != nil {
				reload(t, dir, c)
			}
		})
	}
}

func typeNames() string {
	var names []string
	for _, t := range builtin.Types() {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// reload checks that the effective configuration, with the secrets put back, is the same one.
func reload(t *testing.T, dir string, c *config.Config) {
	t.Helper()
	text, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	restored := text
	for _, cred := range c.Credentials {
		if cred.PasswordFile == "" && cred.Password.Reveal() != "" {
			if strings.Contains(text, cred.Password.Reveal()) {
				t.Errorf("a password is shown:\n%s", text)
			}
			restored = strings.Replace(restored, "password: (secret)", fmt.Sprintf("password: %q", cred.Password.Reveal()), 1)
		}
	}
	again, problems := config.Parse("effective.yaml", dir, []byte(restored), builtin.Types())
	if problems.Worst() >= config.Unread {
		t.Fatalf("the effective configuration cannot be read:\n%s%s", lines(problems), restored)
	}
	second, err := again.Effective()
	if err != nil || second != text {
		t.Errorf("read again it is\n%s, not\n%s (%v)", second, text, err)
	}
	for i, cred := range again.Credentials {
		if cred.Password.Reveal() != c.Credentials[i].Password.Reveal() {
			t.Errorf("credentials[%d]: the password did not survive", i)
		}
	}
}

func compare(t *testing.T, path string, archive *txtar.Archive, name, got string) {
	t.Helper()
	f := file(archive, name)
	if f == nil {
		archive.Files = append(archive.Files, txtar.File{Name: name})
		f = file(archive, name)
	}
	if string(f.Data) == got {
		return
	}
	if !*update {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, f.Data)
		return
	}
	f.Data = []byte(got)
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readArchive(t testing.TB, path string) *txtar.Archive {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// file is the one of that name; nil if there is none.
func file(archive *txtar.Archive, name string) *txtar.File {
	for i, f := range archive.Files {
		if f.Name == name {
			return &archive.Files[i]
		}
	}
	return nil
}

func lines(problems config.Problems) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	mode := os.FileMode(0o600)
	if strings.HasPrefix(name, "public") {
		mode = 0o644
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyPairs are certificates and their keys, in PEM.
func keyPairs(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for name, until := range map[string]time.Time{"a": time.Now().AddDate(1, 0, 0), "b": time.Now().AddDate(1, 0, 0), "expired": time.Unix(1e9, 0)} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: until}
		certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files[name+".crt"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
		files[name+".key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	}
	return files
}

// fixed is the configuration that scripts rely on, as it is documented.
const fixed = `data_dir: /var/lib/callbackd
admin: {listen: 127.0.0.1:9400}
allow_anonymous: false
network: {mode: enforce, allow: [thingspace, 127.0.0.1/32]}
credentials:
  - {label: main, username: acme, password_file: /run/secrets/callback}
services:
  DeviceUsage: {listen: 0.0.0.0:28204, path: /, validation: quarantine, tls: {cert_file: a.crt, key_file: a.key}}
handlers:
  audit: {type: log}
  events: {type: ndjson, path: /var/lib/callbackd/events.ndjson}
routes:
  - {services: [DeviceUsage], handlers: [audit, events]}
`

func TestFixedPointsOfTheFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range keyPairs(t) {
		write(t, dir, name, text)
	}
	secret := write(t, dir, "callback", "s3cret-pass\n")
	// The secret's folder is the system's: the one difference to the text above.
	text := strings.Replace(fixed, "/run/secrets/callback", secret, 1)
	c, problems, err := config.Load(write(t, dir, "callbackd.yaml", text), builtin.Types())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Path != "network.allow" { // that the addresses of the SOAP sender are unpublished
			t.Errorf("a warning that nobody needs: %s", p)
		}
	}
	s := c.Services["DeviceUsage"]
	if c.DataDir != "/var/lib/callbackd" || c.Admin.Listen != "127.0.0.1:9400" || c.Network.Mode != "enforce" || s.Listen != "0.0.0.0:28204" ||
		s.TLS.CertFile != filepath.Join(dir, "a.crt") || c.Credentials[0].Password.Reveal() != "s3cret-pass" {
		t.Errorf("read as %+v", c)
	}
	if got := c.HandlersFor(callback.DeviceUsage, callback.KindUsage); strings.Join(got, " ") != "audit events" {
		t.Errorf("a Usage goes to %v", got)
	}
	if got := c.TestHandlers(callback.DeviceUsage, callback.KindUsage); strings.Join(got, " ") != "audit" {
		t.Errorf("a test goes to %v", got)
	}
	if got, want := c.Place("services.DeviceUsage.listen"), filepath.Join(dir, "callbackd.yaml")+":8"; got != want {
		t.Errorf("the listener is told to be at %s, not %s", got, want)
	}
}

func TestPathIsTheAskedThenTheEnvironmentsThenTheSystems(t *testing.T) {
	t.Setenv("CALLBACKD_CONFIG", "/env.yaml")
	if got := config.Path("/asked.yaml"); got != "/asked.yaml" {
		t.Errorf("asked: %s", got)
	}
	if got := config.Path(""); got != "/env.yaml" {
		t.Errorf("environment: %s", got)
	}
	t.Setenv("CALLBACKD_CONFIG", "")
	if got := config.Path(""); got != "/etc/callbackd/callbackd.yaml" {
		t.Errorf("system: %s", got)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ name, path, want string }{
		{"is not there", filepath.Join(dir, "none.yaml"), "name the configuration with --config or $CALLBACKD_CONFIG"},
		{"is a folder", dir, "is a directory"},
		{"is too large", write(t, dir, "large.yaml", strings.Repeat("# \n", 1<<20)), "is larger than 1MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := config.Load(c.path, builtin.Types()); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	c, problems := config.Parse("c.yaml", t.TempDir(), []byte("credentials: [{label: main, username: acme, password: s3cret-pass}]"), builtin.Types())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, c.Credentials[0].Password) + fmt.Sprintf(verb, problems); strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	if text, err := c.Credentials[0].Password.MarshalText(); err != nil || string(text) != "(secret)" {
		t.Errorf("marshals as %s, %v", text, err)
	}
}

// TestAliasesCannotMakeALargeFileOfASmallOne reads a file whose aliases stand for ten thousand million values.
func TestAliasesCannotMakeALargeFileOfASmallOne(t *testing.T) {
	t.Parallel()
	text := "credentials:\n- &a {label: m, services: [" + strings.Repeat("DeviceUsage,", 20_000) + "]}\n" + strings.Repeat("- *a\n", 100_000)
	_, problems := config.Parse("c.yaml", t.TempDir(), []byte(text), builtin.Types())
	if len(problems) > 101 || !strings.Contains(lines(problems), "counting what aliases stand for") {
		t.Errorf("%d problems: %.300s", len(problems), lines(problems))
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(fixed))
	for _, path := range paths {
		f.Add(file(readArchive(f, path), "config.yaml").Data)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		c, problems := config.Parse("c.yaml", dir, text, builtin.Types())
		last := 1
		for _, r := range string(text) {
			if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) { // each of which YAML takes for the end of a line
				last++
			}
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Line > last || p.Msg == "" || p.File != "c.yaml" {
				t.Errorf("problem without a place: %+v", p)
			}
		}
		if problems.Worst() < config.Unread {
			reload(t, dir, c)
		}
	})
}

// TestThePasswordIsTheTextOfTheLine, without what editors put around it unseen; spaces may well be the password's own.
func TestThePasswordIsTheTextOfTheLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hunter2": "hunter2", "hunter2\n": "hunter2", "hunter2\r\n": "hunter2", "\ufeffhunter2\r\n": "hunter2", " hunter2 \n": " hunter2 ",
	} {
		dir := t.TempDir()
		write(t, dir, "secret", text)
		c, problems := config.Parse("callbackd.yaml", dir, []byte(`data_dir: data
credentials: [{label: main, username: acme, password_file: secret}]
services: {DeviceUsage: {listen: 127.0.0.1:28204}}
`), nil)
		if c == nil || c.Credentials[0].Password.Reveal() != want {
			t.Errorf("the file %q does not hold the password %q: %v", text, want, problems)
		}
	}
}
