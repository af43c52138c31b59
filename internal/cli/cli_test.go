package cli_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/cli"
)

// newScript is a script without lines, in whose folder the files are.
func newScript(t *testing.T, files map[string]string) *script {
	t.Helper()
	s := &script{t: t, dir: t.TempDir(), vars: strings.NewReplacer()}
	for name, text := range files {
		s.write(name, strings.ReplaceAll(text, "$WORK", s.dir))
	}
	t.Cleanup(func() { s.end() })
	return s
}

func (s *script) must(line string) {
	s.t.Helper()
	if err := s.do(split(strings.ReplaceAll(line, "$WORK", s.dir))); err != nil {
		s.t.Fatalf("%s: %v\nstdout: %s\nstderr: %s\nbeside: %s", line, err, s.stdout, s.stderr, s.log())
	}
}

// TestShapeOfListAndExport is what scripts rely on.
func TestShapeOfListAndExport(t *testing.T) {
	t.Parallel()
	admin, port := freePort(t), freePort(t)
	s := newScript(t, map[string]string{"c.yaml": fmt.Sprintf(`data_dir: data
admin: {listen: 127.0.0.1:%d}
credentials: [{label: main, username: acme, password: s3cret-pass}]
services: {DeviceUsage: {listen: 127.0.0.1:%d}}
`, admin, port)})
	s.must("start callbackd serve --config $WORK/c.yaml")
	s.must(fmt.Sprintf("ready http://127.0.0.1:%d/readyz", admin))
	s.must("callbackd send --service DeviceUsage --sample ResumeTrackingNotification --deliver --config $WORK/c.yaml")
	s.must("callbackd send --service DeviceUsage --sample SmsCallbackRequest --config $WORK/c.yaml")
	for range 2 { // while it serves, and while it does not
		s.must("callbackd inbox list -o json --config $WORK/c.yaml")
		var entries []map[string]any
		if err := json.Unmarshal([]byte(s.stdout), &entries); err != nil {
			t.Fatalf("not one array: %v\n%s", err, s.stdout)
		}
		s.must("callbackd inbox export --config $WORK/c.yaml")
		lines := strings.Split(strings.TrimSuffix(s.stdout, "\n"), "\n")
		if len(entries) != 2 || len(lines) != 2 {
			t.Fatalf("%d entries and %d lines, want 2", len(entries), len(lines))
		}
		for i, entry := range entries {
			var line map[string]any
			if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
				t.Fatalf("not a line of JSON: %v\n%s", err, lines[i])
			}
			if payload, _ := line["payload"].(string); !strings.Contains(payload, "Envelope") {
				t.Errorf("payload is %q", line["payload"])
			}
			for _, key := range []string{"seq", "service", "kind", "request_id", "received_at", "devices", "state", "sightings", "account"} {
				if _, ok := entry[key]; !ok {
					t.Errorf("list lacks %s: it has %v", key, slices.Sorted(maps.Keys(entry)))
				}
				if fmt.Sprint(line[key]) != fmt.Sprint(entry[key]) {
					t.Errorf("export has %s %v, list has %v", key, line[key], entry[key])
				}
			}
			if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(entry["received_at"])); err != nil || time.Since(at) > time.Hour {
				t.Errorf("received_at is %v", entry["received_at"])
			}
			if devices, ok := entry["devices"].([]any); !ok || len(devices) == 0 {
				t.Errorf("devices are %v", entry["devices"])
			}
		}
		if entries[0]["seq"] != 1.0 || entries[0]["state"] != "done" || entries[0]["sightings"] != 1.0 || entries[0]["account"] != "main" {
			t.Errorf("the first entry is %v", entries[0])
		}
		if s.background != nil {
			s.must("stop")
		}
	}
}

func TestSendOverTLSTrustsWhatItIsTold(t *testing.T) {
	t.Parallel()
	admin, port := freePort(t), freePort(t)
	certificate, key := selfSigned(t)
	s := newScript(t, map[string]string{"a.crt": certificate, "a.key": key, "c.yaml": fmt.Sprintf(`data_dir: data
admin: {listen: 127.0.0.1:%d}
allow_anonymous: true
services: {DeviceUsage: {listen: 127.0.0.1:%d, tls: {cert_file: a.crt, key_file: a.key}}}
`, admin, port)})
	s.must("start callbackd serve --config $WORK/c.yaml")
	s.must(fmt.Sprintf("ready http://127.0.0.1:%d/readyz", admin))
	s.must("exit 1 callbackd send --service DeviceUsage --config $WORK/c.yaml")
	s.must("stdout 'name the authority with --ca-file'")
	s.must("callbackd send --service DeviceUsage --ca-file $WORK/a.crt --config $WORK/c.yaml")
	s.must("stdout 'https://127.0.0.1:[0-9]+/: acknowledged with 200'")
	s.must(fmt.Sprintf("exit 1 callbackd send --service DeviceUsage --ca-file $WORK/a.crt --url https://localhost:%d/ --config $WORK/c.yaml", port))
	s.must("stdout 'the certificate is for another name'")
	s.must(fmt.Sprintf("exit 1 callbackd send --service DeviceUsage --url http://127.0.0.1:%d/ --config $WORK/c.yaml", port))
	s.must("stdout 'speaks? HTTPS'")
	s.must("exit 2 callbackd send --service DeviceUsage --ca-file $WORK/c.yaml --config $WORK/c.yaml")
	s.must("stop")
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

func TestDemoTellsWhatHappensAndSumsUp(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	if code := cli.Main(t.Context(), []string{"demo", "--count", "9", "--every", "1ms"}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	for _, want := range []string{
		`(?m)^  \S+ inbox list --config \S+callbackd.yaml$`,
		`(?m)^ResumeTrackingNotification  the published sample, to 127\.0\.0\.1:\d+$`,
		`(?m)^   acknowledged after \S+: stored$`,
		`(?m)^   handled: Comment for Mdn:3124705797: .*Device will be auto resumed on - 3/15/2017`,
		`(?m)^   acknowledged after \S+: known already, so it is neither stored nor handled again$`,
		`(?m)^9 sent, 1 of them again; 9 acknowledged, 8 stored, 8 delivered\.`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("nothing matches %s:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "receiver  received") || errOut.Len() > 0 {
		t.Errorf("the log shows without --verbose:\n%s%s", out.String(), errOut.String())
	}
	if left, err := filepath.Glob(filepath.Dir(configOf(t, out.String()))); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

var configFlag = regexp.MustCompile(`--config (\S+)`)

func configOf(t *testing.T, output string) string {
	t.Helper()
	m := configFlag.FindStringSubmatch(output)
	if m == nil {
		t.Fatalf("no command is shown:\n%s", output)
	}
	return m[1]
}

// TestDemoCanBeLookedInto runs two at once, so that one has not the default ports, and runs the command that the second shows.
func TestDemoCanBeLookedInto(t *testing.T) {
	t.Parallel()
	first, second := startDemo(t), startDemo(t, "--verbose")
	for _, d := range []*background{first, second} {
		s := &script{t: t}
		if err := s.poll(func() bool { return strings.Contains(d.stdout.String(), "handled: ") }); err != nil {
			t.Fatalf("%v:\n%s%s", err, d.stdout.String(), d.stderr.String())
		}
		file := configOf(t, d.stdout.String())
		if err := s.run(0, []string{"inbox", "list", "--config", file}); err != nil || !strings.Contains(s.stdout, "ResumeTrackingNotification") {
			t.Errorf("list: %v\n%s%s", err, s.stdout, s.stderr)
		}
		if err := s.run(0, []string{"send", "--service", "DeviceUsage", "--config", file}); err != nil {
			t.Errorf("send: %v\n%s%s", err, s.stdout, s.stderr)
		}
		d.cancel() // as Ctrl-C does
		if code := <-d.code; code != 0 {
			t.Errorf("exit code %d\n%s", code, d.stderr.String())
		}
		if !strings.Contains(d.stdout.String(), " sent, 0 of them again; ") {
			t.Errorf("no summary:\n%s", d.stdout.String())
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s was left behind", file)
		}
	}
	if !strings.Contains(second.stdout.String(), "receiver  received") {
		t.Errorf("--verbose shows no log:\n%s", second.stdout.String())
	}
}

func startDemo(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &background{cancel: cancel, code: make(chan int, 1), stdout: &buffer{}, stderr: &buffer{}}
	t.Cleanup(func() {
		cancel()
		for range d.code { // wait for the end, so that nothing is left behind
		}
	})
	go func() {
		defer close(d.code)
		d.code <- cli.Main(ctx, append([]string{"demo", "--every", "1h"}, args...), strings.NewReader(""), d.stdout, d.stderr)
	}()
	return d
}
