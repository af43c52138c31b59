package handler_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestSecretsAreReadFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, test := range []struct{ rule, content, want, problem string }{
		{"a line", "s3cret\n", "s3cret", ""},
		{"a line without its end", "s3cret", "s3cret", ""},
		{"a line as other systems end it", "s3cret\r\n", "s3cret", ""},
		{"the mark of an editor", "\ufeffs3cret\n\n", "s3cret", ""},
		{"spaces are part of it", " s3cret \n", " s3cret ", ""},
		{"nothing", "", "", "is empty: write the secret into it"},
		{"a line end alone", "\n", "", "is empty: write the secret into it"},
		{"two lines", "s3cret\nold", "", "has several lines: a secret has one"},
		{"no text", "s3\x00ret", "", "has several lines: a secret has one"},
		{"too much", strings.Repeat("s3cret", 1<<18), "", "is larger than 1 MiB"},
	} {
		path := filepath.Join(dir, "secret")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := handler.ReadSecret(path)
		if got != test.want || test.problem == "" && err != nil {
			t.Errorf("%s: read %q, %v", test.rule, got, err)
		}
		if want := path + ": " + test.problem; test.problem != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: error is %v, want %s", test.rule, err, want)
		}
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		dir: dir + ": is not a file: name one", socket: socket + ": is not a file: name one",
		socket + "2": socket + "2: there is no such file: write it, or mend the path",
	} {
		if _, err := handler.ReadSecret(path); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestTLSNamesTheKeyAndTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tls.pem")
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		config *handler.TLS
		want   string // the beginning of the error
	}{
		{nil, ""},
		{&handler.TLS{}, ""},
		{&handler.TLS{CAFile: path}, "tls.ca_file: " + path + ": holds no certificate in PEM"},
		{&handler.TLS{CAFile: path + "2"}, "tls.ca_file: " + path + "2: there is no such file"},
		{&handler.TLS{CertFile: path, KeyFile: path}, "tls.cert_file: " + path + " with the key_file " + path + ": tls: "},
		{&handler.TLS{CertFile: path, KeyFile: path + "2"}, "tls.key_file: " + path + "2: there is no such file"},
	} {
		config, err := test.config.Config()
		switch {
		case test.want == "" && (err != nil || config.RootCAs != nil || config.InsecureSkipVerify):
			t.Errorf("%+v: %+v, %v", test.config, config, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
			t.Errorf("%+v: error is %v, want %s", test.config, err, test.want)
		}
	}
	if half := (&handler.TLS{CertFile: path}).Validate(); len(half) != 1 || !strings.HasPrefix(half[0].Error(), "tls: ") {
		t.Errorf("a certificate without its key: %v", half)
	}
}

// Whoever reads the log learns when trouble begins and ends, however often it is noted.
func TestReadinessIsLoggedWhenItChanges(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zap.InfoLevel)
	r := handler.Readiness{Log: zap.New(core)}
	down := errors.New("connection refused")
	for _, fault := range []error{nil, down, down, errors.New("no route"), nil, nil} {
		r.Note(fault)
		if got := r.Ready(); !errors.Is(got, fault) {
			t.Errorf("ready says %v after %v", got, fault)
		}
	}
	list := lines.All()
	if len(list) != 2 || list[0].Level != zap.WarnLevel || list[0].ContextMap()["error"] != "connection refused" || list[1].Message != "ready again" {
		t.Errorf("the log has %v", list)
	}
}

func TestMetricsAreRegisteredTogether(t *testing.T) {
	t.Parallel()
	counter := func(name string) prometheus.Collector {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "A test's."})
	}
	reg := prometheus.NewRegistry()
	env := handler.Env{Registerer: reg}
	unregister, err := env.Register(counter("first"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Register(counter("second"), counter("first")); err == nil {
		t.Error("a name was taken twice")
	}
	if got, err := reg.Gather(); len(got) != 1 || got[0].GetName() != "first" || err != nil {
		t.Errorf("registered are %v, want the first alone, %v", got, err)
	}
	unregister()
	unregister()
	if got, err := reg.Gather(); len(got) != 0 || err != nil {
		t.Errorf("what is left is %v, %v", got, err)
	}
}

func TestAnEventIsOneLineOfJSON(t *testing.T) {
	t.Parallel()
	d := handlertest.Delivery(callback.KindUsage)
	d.Callback.Usage.ServicePlan = "a<b>&c\n"
	got, err := d.Event().JSON()
	if err != nil || bytes.Contains(got, []byte("\n")) || !bytes.Contains(got, []byte(`"a<b>&c\n"`)) || !bytes.HasPrefix(got, []byte(`{"specversion":`)) {
		t.Errorf("event is %s, %v", got, err)
	}
	data, err := d.Event().DataJSON()
	if err != nil || !bytes.Contains(got, append([]byte(`"data":`), data...)) {
		t.Errorf("data is %s, which is not in %s, %v", data, got, err)
	}
}

// All that stands beside data is an attribute, so that none that is added is forgotten.
func TestAttributesAreTheMembersBesideData(t *testing.T) {
	t.Parallel()
	d := handlertest.Delivery(callback.KindUsage)
	d.Replay, d.Flags = true, []string{"test", "repeat"}
	e := d.Event()
	got, err := e.Attributes()
	if err != nil {
		t.Fatal(err)
	}
	if got["id"] != d.ID || got["replay"] != "true" || got["flags"] != "test,repeat" || got["sequence"] != e.Sequence || got["data"] != "" || e.Data == nil {
		t.Errorf("attributes are %v", got)
	}
	if len(got) != 13 {
		t.Errorf("%d attributes, want all that an event has: %v", len(got), got)
	}
}

// No callback says where it goes, whatever its kind or account are called.
func TestTemplatesNameWhereADeliveryGoes(t *testing.T) {
	t.Parallel()
	d := &handler.Delivery{Service: callback.DeviceUsage, Account: "a.b c/\u00e9", Callback: &callback.Callback{Kind: callback.KindUsage}}
	for template, want := range map[handler.Template]string{
		"callbacks": "callbacks", "x.{service}.{kind}": "x.DeviceUsage.Usage", "{account}": "a-b-c--", "{kind}{kind}": "UsageUsage",
	} {
		if got := template.Name(d); got != want {
			t.Errorf("%s is %q, want %q", template, got, want)
		}
	}
	d.Account = strings.Repeat("x", 100)
	if got := handler.Template("{account}").Name(d); len(got) != handler.LongestWord {
		t.Errorf("a long account becomes %q", got)
	}
	if got := handler.Template("{account}.{kind}").Name(&handler.Delivery{Callback: &callback.Callback{}}); got != "-.-" {
		t.Errorf("what there is not becomes %q", got)
	}
	if text, words, err := handler.Template("x.{service}.{kind}").Literal(); text != "x.." || words != 2 || err != nil {
		t.Errorf("beside the words there is %q, with %d words, %v", text, words, err)
	}
	for _, wrong := range []handler.Template{"{device}", "{Service}", "{service", "service}", "{}"} {
		if _, _, err := wrong.Literal(); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

type named struct{ paths map[string]*string }

func (n named) Paths() map[string]*string { return n.paths }

func TestSecretsThatEverybodyCanReadAreWarnedOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) *string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return &path
	}
	core, lines := observer.New(zap.InfoLevel)
	none, missing := "", filepath.Join(dir, "missing")
	handler.Env{Log: zap.New(core)}.WarnOfPublicSecrets(named{map[string]*string{
		"tls.ca_file": file("ca", 0o644), "tls.cert_file": file("cert", 0o644), "tls.key_file": file("key", 0o644),
		"password_file": file("password", 0o600), "token_file": &none, "creds_file": &missing,
	}})
	if list := lines.All(); len(list) != 1 || list[0].ContextMap()["key"] != "tls.key_file" || list[0].ContextMap()["file"] != filepath.Join(dir, "key") {
		t.Errorf("the log has %v, want the key of the certificate alone", list)
	}
}
