package webhook_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/handler/webhook"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	header := func(list ...webhook.Header) func(*webhook.Config) {
		return func(c *webhook.Config) { c.Headers = list }
	}
	address := func(url string) func(*webhook.Config) { return func(c *webhook.Config) { c.URL = url } }
	const none = "is not an http or https URL with a host, such as https://events.example.com/thingspace"
	for _, test := range []struct {
		rule   string
		change func(c *webhook.Config)
		want   []string
	}{
		{"an https URL", func(*webhook.Config) {}, nil},
		{"http, a port, a path and a query", address("http://erp.internal:8080/a/b?c=d"), nil},
		{"an address of one's own", address("http://[::1]:8080"), nil},
		{"no URL", address(""), []string{"url: missing: where events are posted to, such as https://events.example.com/thingspace"}},
		{"a scheme that is not HTTP's", address("ftp://s3cret.example"), []string{"url: " + none}},
		{"no scheme", address("erp.example.com/s3cret"), []string{"url: " + none}},
		{"no host", address("https:///s3cret"), []string{"url: " + none}},
		{"an escape that is none", address("https://erp.example.com/%zs3cret"), []string{"url: " + none}},
		{"a password", address("https://u:s3cret@erp.example.com"), []string{
			"url: holds a user name or password, which would be shown: write the Authorization header into a file, and name it in authorization_file"}},
		{"a fragment", address("https://erp.example.com/#s3cret"), []string{"url: has a fragment (#), which no request carries: leave it out, or write %23"}},
		{"a metadata service", address("http://169.254.169.254/latest"), []string{"url: 169.254.169.254 is link-local, where no event is ever sent"}},
		{"a metadata service in IPv6", address("http://[::ffff:a9fe:a9fe]/"), []string{"url: ::ffff:169.254.169.254 is link-local, where no event is ever sent"}},
		{"a mode that is none", func(c *webhook.Config) { c.Mode = "batched" }, []string{"mode: must be structured or binary"}},
		{"no time to connect", func(c *webhook.Config) { c.ConnectTimeout = 0 }, []string{"connect_timeout: must be more than nothing; 5s is the default"}},
		{"too many secrets", func(c *webhook.Config) { c.SecretFiles = slices.Repeat([]string{"x"}, 9) }, []string{
			"secret_files: 9 are more than the 8 that an event is signed with: leave out those that the endpoint does not use any more"}},
		{"a secret without a file", func(c *webhook.Config) { c.SecretFiles = []string{"x", ""} }, []string{"secret_files[1]: the name of the file is missing"}},
		{"half a certificate", func(c *webhook.Config) { c.TLS = &handler.TLS{CertFile: "x"} }, []string{"tls: cert_file and key_file go together: give both, or none"}},
		{"TLS without TLS", func(c *webhook.Config) { c.URL, c.TLS = "http://erp", &handler.TLS{CAFile: "x"} }, []string{
			"tls: url is http, which is without TLS: write https, or leave this out"}},
		{"headers", header(webhook.Header{Name: "X-A", Value: "a"}, webhook.Header{Name: "X-B", ValueFile: "b"}), nil},
		{"a header without a name", header(webhook.Header{Value: "a"}), []string{"headers[0].name: is not the name of a header"}},
		{"a name with a space", header(webhook.Header{Name: "X A", Value: "a"}), []string{"headers[0].name: is not the name of a header"}},
		{"a header without a value", header(webhook.Header{Name: "X-A"}), []string{"headers[0]: give value, or value_file if it is a secret"}},
		{"a header with two values", header(webhook.Header{Name: "X-A", Value: "a", ValueFile: "b"}), []string{"headers[0]: give value, or value_file if it is a secret"}},
		{"a value of two lines", header(webhook.Header{Name: "X-A", Value: "s3cret\r\nX-B: b"}), []string{"headers[0].value: has a character that no header can carry"}},
		{"a header twice", header(webhook.Header{Name: "X-A", Value: "a"}, webhook.Header{Name: "x-a", Value: "b"}), []string{"headers[1].name: x-a stands twice"}},
		{"Authorization in clear", header(webhook.Header{Name: "Authorization", Value: "s3cret"}), []string{
			"headers[0].name: write the value of Authorization into a file, and name it in authorization_file"}},
		{"a header of the event's", header(webhook.Header{Name: "CE-Id", Value: "a"}), []string{"headers[0].name: CE-Id is not for the configuration to set"}},
		{"a header of the signature's", header(webhook.Header{Name: "webhook-id", Value: "a"}), []string{"headers[0].name: webhook-id is not for the configuration to set"}},
		{"a header of the connection's", header(webhook.Header{Name: "Transfer-Encoding", Value: "a"}), []string{"headers[0].name: Transfer-Encoding is not for the configuration to set"}},
		{"everything at once", func(c *webhook.Config) { *c = webhook.Config{} }, []string{"url: missing: where events are posted to, such as https://events.example.com/thingspace",
			"mode: must be structured or binary", "connect_timeout: must be more than nothing; 5s is the default"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			c := config("https://erp.example.com")
			test.change(c)
			var got []string
			for _, err := range c.Validate() {
				got = append(got, err.Error())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("problems are %q, want %q", got, test.want)
			}
			if strings.Contains(fmt.Sprint(got), "s3cret") {
				t.Errorf("a secret is shown: %q", got)
			}
		})
	}
}

func TestPathsAreAllThatTheConfigurationNames(t *testing.T) {
	t.Parallel()
	c := config("https://erp.example.com")
	c.SecretFiles, c.AuthorizationFile = []string{"a", "b"}, "c"
	c.Headers, c.TLS = []webhook.Header{{Name: "X-A", Value: "a"}, {Name: "X-B", ValueFile: "d"}}, &handler.TLS{CAFile: "e", CertFile: "f", KeyFile: "g"}
	var got []string
	for key, path := range c.Paths() {
		got = append(got, key+"="+*path)
		*path = "/" + *path
	}
	slices.Sort(got)
	want := []string{"authorization_file=c", "headers[0].value_file=", "headers[1].value_file=d", "secret_files[0]=a", "secret_files[1]=b",
		"tls.ca_file=e", "tls.cert_file=f", "tls.key_file=g"}
	if !slices.Equal(got, want) || c.SecretFiles[1] != "/b" || c.Headers[1].ValueFile != "/d" || c.TLS.KeyFile != "/g" {
		t.Errorf("paths are %q; then %+v", got, c)
	}
}

// TestOpenSaysWhatToDo about each file that cannot be used, and quotes nothing of it.
func TestOpenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	certificate, key := pair(t, "a")
	_, otherKey := pair(t, "b")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secretFile := func(name, text string) func(*webhook.Config) {
		path := file(name, text)
		return func(c *webhook.Config) { c.SecretFiles = []string{path} }
	}
	files := func(ca, crt, key string) func(*webhook.Config) {
		return func(c *webhook.Config) { c.TLS = &handler.TLS{CAFile: ca, CertFile: crt, KeyFile: key} }
	}
	const makes = "`echo whsec_$(openssl rand -base64 32)` makes a secret"
	for _, test := range []struct {
		rule   string
		change func(c *webhook.Config)
		want   string // DIR is the folder
	}{
		{"a secret that is not there", func(c *webhook.Config) { c.SecretFiles = []string{dir + "/none"} }, "secret_files[0]: DIR/none: there is no such file: write it, or mend the path"},
		{"a folder", func(c *webhook.Config) { c.SecretFiles = []string{dir} }, "secret_files[0]: DIR: is not a file: name one"},
		{"an empty secret", secretFile("empty", "\n"), "secret_files[0]: DIR/empty: is empty: write the secret into it"},
		{"a secret without its prefix", secretFile("bare", "c2VjcmV0"), "secret_files[0]: DIR/bare: does not begin with whsec_: " + makes},
		{"a secret that is no base64", secretFile("text", "whsec_s3cret-text"), "secret_files[0]: DIR/text: is not base64 after whsec_: " + makes},
		{"a private key", secretFile("private", "whsk_c2VjcmV0"), "secret_files[0]: DIR/private: does not begin with whsec_: " + makes},
		{"a short secret", secretFile("short", "whsec_c2VjcmV0"), "secret_files[0]: DIR/short: is a secret of 6 bytes, and has to be one of 24 to 64"},
		{"a long secret", secretFile("long", "whsec_"+strings.Repeat("c2Vj", 22)), "secret_files[0]: DIR/long: is a secret of 66 bytes, and has to be one of 24 to 64"},
		{"two secrets in one file", secretFile("two", secret+"\n"+secret), "secret_files[0]: DIR/two: has several lines: a secret has one"},
		{"a secret without end", secretFile("large", strings.Repeat("s3cret", 1<<18)), "secret_files[0]: DIR/large: is larger than 1 MiB"},
		{"a header that no header can carry", func(c *webhook.Config) { c.AuthorizationFile = file("control", "Bearer s3cret\x01") }, "authorization_file: DIR/control: has a character that no header can carry"},
		{"a header's file that is not there", func(c *webhook.Config) { c.Headers = []webhook.Header{{Name: "X-A", ValueFile: dir + "/none"}} },
			"headers[0].value_file: DIR/none: there is no such file: write it, or mend the path"},
		{"an authority that is none", files(file("ca", "s3cret"), "", ""), "tls.ca_file: DIR/ca: holds no certificate in PEM"},
		{"an authority that is not there", files(dir+"/none", "", ""), "tls.ca_file: DIR/none: there is no such file: write it, or mend the path"},
		{"a key of another certificate", files("", file("a.crt", certificate), file("b.key", otherKey)),
			"tls.cert_file: DIR/a.crt with the key_file DIR/b.key: tls: private key does not match public key"},
		{"a certificate that is none", files("", file("no.crt", "s3cret"), file("a.key", key)),
			"tls.cert_file: DIR/no.crt with the key_file DIR/a.key: tls: failed to find any PEM data in certificate input"},
		{"a key that is not there", files("", dir+"/a.crt", dir+"/none"), "tls.key_file: DIR/none: there is no such file: write it, or mend the path"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			c := config("https://erp.example.com")
			test.change(c)
			registry := prometheus.NewRegistry()
			h, err := c.Open(t.Context(), handler.Env{Name: "erp", Log: zap.NewNop(), Registerer: registry})
			if want := strings.ReplaceAll(test.want, "DIR", dir); err == nil || err.Error() != want || h != nil {
				t.Errorf("error is %v, want %s", err, want)
			}
			if families, err := registry.Gather(); err != nil || len(families) > 0 {
				t.Errorf("metrics are left, so that it cannot be opened again: %v", err)
			}
		})
	}
}

// TestItIsOpenedAgainAfterItHasFailed, as soon as its files are there.
func TestItIsOpenedAgainAfterItHasFailed(t *testing.T) {
	t.Parallel()
	c := config("https://erp.example.com")
	c.SecretFiles = []string{filepath.Join(t.TempDir(), "late")}
	env := handler.Env{Name: "erp", Log: zap.NewNop(), Registerer: prometheus.NewRegistry()}
	if _, err := c.Open(t.Context(), env); err == nil {
		t.Fatal("opened without its secret")
	}
	replace(t, c.SecretFiles[0], secret)
	for range 2 { // and after it was closed
		h, err := c.Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatWorksAndIsNotSafeIsTold by check, as far as the configuration shows it, and else in the log when the handler is opened.
func TestWhatWorksAndIsNotSafeIsTold(t *testing.T) {
	t.Parallel()
	safe := writeFile(t, "safe", secret)
	public := writeFile(t, "public", secret)
	if err := os.Chmod(public, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule string
		url  string
		file string
		want []string
	}{
		{"signed, over TLS", "https://erp.example.com", safe, nil},
		{"not signed", "https://erp.example.com", "", []string{"secret_files: missing: events are not signed"}},
		{"without TLS on this machine", "http://127.0.0.1:8080", safe, nil},
		{"without TLS", "http://erp.internal", safe, []string{"url: events are posted over http"}},
		{"without either", "http://erp.internal", "", []string{"url: events are posted over http", "secret_files: missing: events are not signed"}},
		{"a secret that is none", "https://erp.example.com", public, []string{"everybody on this machine can read a secret"}},
	} {
		c := config(test.url)
		if test.file != "" {
			c.SecretFiles = []string{test.file}
		}
		s := openWith(t, c)
		var got []string
		for _, warning := range c.Warnings() {
			got = append(got, warning.Error())
		}
		for _, line := range s.log.All() {
			got = append(got, line.Message)
		}
		if len(got) != len(test.want) || !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", test.rule, got, test.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := webhook.Type().Config().(*webhook.Config)
	if c.Mode != webhook.Structured || c.ConnectTimeout != 5*time.Second || webhook.Type().Concurrency != 8 || webhook.Type().TakesTests {
		t.Errorf("defaults are %+v, %+v", c, webhook.Type())
	}
}
