package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
)

// TestMain sets the variables that cases of testdata expand.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"CALLBACKD_TEST_PORT": "28204", "CALLBACKD_TEST_HOST": "127.0.0.1", "CALLBACKD_TEST_COUNT": "7", "CALLBACKD_TEST_DURATION": "90s",
		"CALLBACKD_TEST_SIZE": "2MiB", "CALLBACKD_TEST_YES": "true", "CALLBACKD_TEST_TYPE": "ndjson", "CALLBACKD_TEST_EMPTY": "", "CALLBACKD_TEST_NULL": "null",
		"CALLBACKD_TEST_SECRET": "expanded-s3cret", "CALLBACKD_TEST_YAML": "{mode: observe}\nallow: [everybody-in-here]",
		"CALLBACKD_TEST_AGAIN": "${CALLBACKD_TEST_SECRET}",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestWhatTheEnvironmentHoldsIsNeverPrinted looks at the problems and at the configuration in effect of every case that expands something.
func TestWhatTheEnvironmentHoldsIsNeverPrinted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const secret = "expanded-s3cret"
	for _, key := range []string{
		"data_dir: ${CALLBACKD_TEST_SECRET}", "ack: ${CALLBACKD_TEST_SECRET}", "log: {level: \"${CALLBACKD_TEST_SECRET}\"}",
		"limits: {connections: \"${CALLBACKD_TEST_SECRET}\"}", "limits: {message: \"${CALLBACKD_TEST_SECRET}\"}", "shutdown: {grace: \"${CALLBACKD_TEST_SECRET}\"}",
		"allow_anonymous: ${CALLBACKD_TEST_SECRET}", "network: {mode: observe, allow: [\"${CALLBACKD_TEST_SECRET}\"]}",
		"services: {DeviceUsage: {public_url: \"ftp://${CALLBACKD_TEST_SECRET}/\", path: \"x${CALLBACKD_TEST_SECRET}\", listen: \"${CALLBACKD_TEST_SECRET}\"}}",
		"credentials: [{label: \"${CALLBACKD_TEST_SECRET}\", username: \"${CALLBACKD_TEST_SECRET}\", password: \"${CALLBACKD_TEST_SECRET}\", services: [\"${CALLBACKD_TEST_SECRET}\"]}]",
		"credentials: [{label: a, username: b, password_file: \"${CALLBACKD_TEST_SECRET}\"}]",
		"handlers: {a: {type: \"${CALLBACKD_TEST_SECRET}\"}}", "handlers: {a: {type: webhook, url: \"https://user:${CALLBACKD_TEST_SECRET}@127.0.0.1/\"}}",
		"handlers: {a: {type: webhook, url: \"${CALLBACKD_TEST_SECRET}\"}}", "routes: [{handlers: [\"" + strings.Repeat("x", 50) + "${CALLBACKD_TEST_SECRET}\"]}]",
		"platform: {url: \"${CALLBACKD_TEST_SECRET}\"}", "heartbeat: {interval: \"${CALLBACKD_TEST_SECRET}\"}",
	} {
		c, problems := config.Parse("c.yaml", dir, []byte(key+"\n"), builtin.Types())
		text := lines(problems)
		if c != nil {
			effective, err := c.Effective()
			if err != nil {
				t.Fatal(err)
			}
			text += effective
		}
		if strings.Contains(text, secret) || strings.Contains(text, secret[:6]) {
			t.Errorf("%s:\n%s", key, text)
		}
		if !strings.Contains(text, "${CALLBACKD_TEST_SECRET}") {
			t.Errorf("%s: nothing was expanded:\n%s", key, text)
		}
	}
}

// TestRelativeFilesAreLookedForAmongTheCredentialsFirst, as systemd passes them, and relative to the configuration if they are not there.
func TestRelativeFilesAreLookedForAmongTheCredentialsFirst(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	write(t, dir, "password", "of the folder\n")
	write(t, dir, "api.token", "0123456789abcdef0123456789abcdef\n")
	write(t, credentials, "password", "of systemd: ${NOTHING} is expanded in it\n")
	write(t, credentials, "hook", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
	write(t, credentials, "data", "")
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	const text = `data_dir: data
admin: {token_file: api.token}
network: {mode: observe}
credentials:
  - {label: main, id: a, username: a, password_file: password}
  - {label: main, id: b, username: b, password_file: %s}
services: {DeviceUsage: {}}
handlers: {hook: {type: webhook, url: "https://127.0.0.1/", secret_files: [hook]}}
routes: [{handlers: [hook]}]
`
	c, problems := config.Parse("c.yaml", dir, fmt.Appendf(nil, text, filepath.Join(dir, "password")), builtin.Types())
	if problems.Worst() > config.Warning {
		t.Fatal(problems)
	}
	effective, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Credentials[0].Password.Reveal(); got != "of systemd: ${NOTHING} is expanded in it" {
		t.Errorf("the relative one is %q", got)
	}
	if got := c.Credentials[1].Password.Reveal(); got != "of the folder" {
		t.Errorf("the absolute one is %q", got)
	}
	if c.Admin.TokenFile != filepath.Join(dir, "api.token") || c.DataDir != filepath.Join(dir, "data") {
		t.Errorf("the token is in %s, the data in %s", c.Admin.TokenFile, c.DataDir)
	}
	if !strings.Contains(effective, "- "+filepath.Join(credentials, "hook")) {
		t.Errorf("the handler's file is another:\n%s", effective)
	}
}

// TestChangesAreNamed, each by its key.
func TestChangesAreNamed(t *testing.T) {
	t.Parallel()
	const base = `data_dir: data
network: {mode: observe}
credentials: [{label: main, username: a, password_file: password}]
services: {DeviceUsage: {tls: {cert_file: tls.crt, key_file: tls.key}}, PromoChange: {}}
handlers: {audit: {type: log}, events: {type: ndjson, path: events.ndjson}}
routes: [{handlers: [audit, events]}]
`
	for name, tc := range map[string]struct {
		old, new string // in the configuration
		file     string // that gets another content
		live     bool   // in force at once
		want     string
	}{
		"nothing":             {"", "", "", true, ""},
		"a password":          {"", "", "password", true, "credentials[0].password_file"},
		"a certificate":       {"", "", "tls", true, "services.DeviceUsage.tls"},
		"another user":        {"username: a", "username: b", "", true, "credentials[0].username"},
		"another mode":        {"mode: observe", "mode: enforce, allow: [192.0.2.1]", "", true, "network.allow network.mode"},
		"a proxy":             {"mode: observe", "mode: observe, proxy: proxy-protocol, trusted_proxies: [192.0.2.1]", "", false, "network.proxy network.trusted_proxies"},
		"another path":        {"PromoChange: {}", "PromoChange: {path: /promo, validation: enforce}", "", true, "services.PromoChange.path services.PromoChange.validation"},
		"another port":        {"PromoChange: {}", "PromoChange: {listen: \"127.0.0.1:28208\", path: /promo}", "", false, "services.PromoChange.listen services.PromoChange.path"},
		"one service more":    {"PromoChange: {}", "PromoChange: {}, AlertService: {}", "", false, "services.AlertService"},
		"one service less":    {", PromoChange: {}", "", "", false, "services.PromoChange"},
		"a key of a handler":  {"events.ndjson", "other.ndjson", "", false, "handlers.events.path"},
		"a handler more":      {"{audit: {type: log}", "{audit: {type: log}, other: {type: log}", "", false, "handlers.other"},
		"a type of a handler": {"type: ndjson, path: events.ndjson", "type: log", "", false, "handlers.events"},
		"another route":       {"[audit, events]", "[events]", "", true, "routes[0].handlers"},
		"a limit":             {"data_dir: data\n", "data_dir: data\nlimits: {connections: 5}\n", "", false, "limits.connections"},
		"the level":           {"data_dir: data\n", "data_dir: data\nlog: {level: debug}\n", "", true, "log.level"},
		"the form of an ack":  {"data_dir: data\n", "data_dir: data\nack: empty\n", "", true, "ack"},
	} {
		dir := t.TempDir()
		files := func() {
			pairs := keyPairs(t)
			write(t, dir, "tls.crt", pairs["a.crt"])
			write(t, dir, "tls.key", pairs["a.key"])
		}
		files()
		write(t, dir, "password", "first")
		load := func(text string) *config.Config {
			t.Helper()
			c, problems, err := config.Load(write(t, dir, "c.yaml", text), builtin.Types())
			if err != nil {
				t.Fatalf("%s: %v", name, problems)
			}
			return c
		}
		before := load(base)
		switch tc.file {
		case "password":
			write(t, dir, "password", "second")
		case "tls":
			files()
		}
		if tc.file != "" && !before.Sources().Changed() {
			t.Errorf("%s: no source has changed", name)
		}
		next := load(strings.Replace(base, tc.old, tc.new, 1))
		now := before.Replaced(next)
		applied, restart := strings.Join(config.Changes(before, now), " "), strings.Join(config.Changes(now, next), " ")
		want := [2]string{"", tc.want}
		if tc.live {
			want = [2]string{tc.want, ""}
		}
		if got := [2]string{applied, restart}; got != want {
			t.Errorf("%s: applied and in need of a restart are %q, not %q", name, got, want)
		}
		if now.Sources().Changed() {
			t.Errorf("%s: a source has changed since", name)
		}
	}
}
