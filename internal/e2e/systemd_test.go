package e2e_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/cli"
	"callbackd/internal/config"
	"callbackd/internal/counterpart"
)

// update writes the socket units.
var update = flag.Bool("update", false, "write the socket units of deploy/systemd")

const units = "../../deploy/systemd"

// socketUnit is the unit of one listener.
func socketUnit(name, what, listen string) string {
	return fmt.Sprintf(`# Where callbackd receives %s: systemd holds the port, so that a restart refuses nobody. Another address goes here and into callbackd.yaml.

[Unit]
Description=callbackd, %s

[Socket]
ListenStream=%s
FileDescriptorName=%s
Service=callbackd.service

[Install]
WantedBy=sockets.target
`, what, what, listen, name)
}

// TestSocketUnitsAreThoseOfTheCatalogue, each with the name and the default port that callbackd looks for.
func TestSocketUnitsAreThoseOfTheCatalogue(t *testing.T) {
	t.Parallel()
	want := map[string]string{"callbackd-admin.socket": socketUnit("admin", "operators and Prometheus", config.Default().Admin.Listen)}
	for _, info := range callback.Catalogue() {
		name := string(info.Service)
		want["callbackd-"+name+".socket"] = socketUnit(name, name, fmt.Sprint(info.Port))
	}
	files, err := filepath.Glob(units + "/*.socket")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if want[filepath.Base(file)] == "" {
			t.Errorf("%s is of no service", file)
		}
	}
	for name, text := range want {
		path := filepath.Join(units, name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not what the catalogue makes of it: go test ./internal/e2e -run SocketUnits -update (%v)", path, err)
		}
	}
}

// TestUnitsAreVerified has systemd read the units as it would on a machine where callbackd is installed.
func TestUnitsAreVerified(t *testing.T) {
	t.Parallel()
	analyze := counterpart.Program(t, "systemd-analyze", "whether systemd takes the units, and how exposed the service is")
	dir := t.TempDir()
	files, err := filepath.Glob(units + "/*.socket")
	if err != nil {
		t.Fatal(err)
	}
	var copies []string
	for _, file := range append(files, units+"/callbackd.service") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Base(file))
		// The program has to be there.
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/callbackd"), []byte(build(t)))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, path)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, copies...)...).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	const exposure = 15 // tenths; 10.0 is a service without any of it
	out, err = exec.Command(analyze, "security", "--offline=true", fmt.Sprintf("--threshold=%d", exposure),
		filepath.Join(dir, "callbackd.service")).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}

// TestTheUnitLeavesTimeToStop: with the defaults callbackd does not have to ask for more.
func TestTheUnitLeavesTimeToStop(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(units + "/callbackd.service")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(text), "\nTimeoutStopSec=")
	value, _, _ = strings.Cut(value, "\n")
	limit, err := time.ParseDuration(strings.TrimSuffix(value, "in"))
	d := config.Default().Shutdown
	if least := d.LameDuck + d.Drain + d.Grace; err != nil || limit < 3*least { // each step has a margin beside
		t.Errorf("TimeoutStopSec=%s, and drain and grace alone take %s: %v", value, least, err)
	}
}

// TestTheConfigurationForSystemdIsValid where its secrets are.
func TestTheConfigurationForSystemdIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(units + "/callbackd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const credentials = "/run/credentials/callbackd.service/secret_"
	if !strings.Contains(string(text), credentials) {
		t.Errorf("it has no secret from %s", credentials)
	}
	path := filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(credentials), []byte(dir+"/")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "callback.password"), []byte("s3cret-pass\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := cli.Main(t.Context(), []string{"check", "--config", path}, strings.NewReader(""), &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Errorf("check: exit code %d\n%s", code, errOut.String())
	}
}
