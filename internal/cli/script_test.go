package cli_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/cli"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets a test start this binary as callbackd.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"callbackd": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		hangups := func() <-chan os.Signal {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGHUP)
			return c
		}
		os.Exit(cli.Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Hangups: hangups}.Main(ctx, os.Args[1:]))
	}})
}

// TestScripts runs each testdata/script/*.txtar. In its configurations, $P1 to $P4 stand for ports that nobody has, as they do in its
// lines. Besides the commands of testscript there are
//
//	exits N callbackd ARGS...     run it; it has to exit with N
//	until RE callbackd ARGS...    run it until it exits with 0 and what it prints matches
//	ready URL                     wait until the URL answers 200
//	certificate CERT KEY          make a certificate for 127.0.0.1, and its key
//	tells-nobody SHOWN FIXTURE    check that `inbox fixture` printed the same event as `inbox show -o json`, about nobody
//	same-shape LIST EXPORT        check what `inbox list -o json` and `inbox export` printed, of the same two entries
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		WorkdirRoot:        t.TempDir(),
		RequireUniqueNames: true,
		Setup:              setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":        command("exits N callbackd ARGS...", 2, exits),
			"until":        command("until RE callbackd ARGS...", 2, until),
			"ready":        command("ready URL", 1, ready),
			"certificate":  command("certificate CERT KEY", 2, certificate),
			"tells-nobody": command("tells-nobody SHOWN FIXTURE", 2, tellsNobody),
			"same-shape":   command("same-shape LIST EXPORT", 2, sameShape),
		},
	})
}

// command is a command of scripts that takes so many arguments at least, and has no opposite.
func command(usage string, arguments int, run func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < arguments {
			ts.Fatalf("usage: %s", usage)
		}
		ts.Check(run(ts, args))
	}
}

// setUp finds the ports, writes them into the configurations, and lets nobody else read those.
func setUp(env *testscript.Env) error {
	env.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector each process would sleep a second at its end
	var pairs []string
	for i, port := range freePorts(4) {
		env.Setenv(fmt.Sprintf("P%d", i+1), port)
		pairs = append(pairs, fmt.Sprintf("$P%d", i+1), port)
	}
	paths, err := filepath.Glob(filepath.Join(env.WorkDir, "*.yaml"))
	for _, path := range paths {
		text, readErr := os.ReadFile(path)
		text = []byte(strings.NewReplacer(pairs...).Replace(string(text)))
		err = errors.Join(err, readErr, os.WriteFile(path, text, 0o600), os.Chmod(path, 0o600))
	}
	return err
}

// freePorts are below those that the system hands out by itself.
func freePorts(n int) (ports []string) {
	for len(ports) < n {
		port := strconv.Itoa(10_000 + rand.IntN(17_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			defer func() { _ = l.Close() }() // held until all are found, so that none is found twice
			ports = append(ports, port)
		}
	}
	return ports
}

func exits(ts *testscript.TestScript, args []string) error {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("exits with %d, not %d", got, want)
	}
	return nil
}

func until(ts *testscript.TestScript, args []string) error {
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	return poll(ts, func() bool { return ts.Exec(args[1], args[2:]...) == nil && re.MatchString(ts.ReadFile("stdout")) })
}

func ready(ts *testscript.TestScript, args []string) error {
	return poll(ts, func() bool {
		response, err := http.Get(args[0])
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// poll waits for a condition, or gives up, or finds that what runs in the background has ended.
func poll(ts *testscript.TestScript, condition func() bool) error {
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		for _, c := range ts.BackgroundCmds() {
			if errors.Is(c.Process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
				return fmt.Errorf("what runs in the background has ended")
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("gave up waiting")
		}
	}
	return nil
}

func certificate(ts *testscript.TestScript, args []string) error {
	cert, key, err := certificatePEM()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(ts.MkAbs(args[0]), cert, 0o600), os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
}

// certificatePEM makes a certificate for 127.0.0.1 that signs itself, and its key.
func certificatePEM() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// sameShape checks what other programs rely on: the two commands tell the same facts under the same names.
func sameShape(ts *testscript.TestScript, args []string) error {
	var entries []map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &entries); err != nil {
		return fmt.Errorf("the list is not one array: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[1]), "\n"), "\n")
	if len(entries) != 2 || len(lines) != 2 {
		return fmt.Errorf("%d entries and %d lines, want 2", len(entries), len(lines))
	}
	var errs []error
	for i, entry := range entries {
		var line map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
			return fmt.Errorf("not a line of JSON: %w", err)
		}
		errs = append(errs, sameFacts(entry, line))
	}
	if first := entries[0]; first["seq"] != 1.0 || first["state"] != "done" || first["sightings"] != 1.0 || first["account"] != "main" {
		errs = append(errs, fmt.Errorf("the first entry is %v", first))
	}
	return errors.Join(errs...)
}

// sameFacts compares an entry as it is listed with its line in the export.
func sameFacts(entry, line map[string]any) error {
	var errs []error
	for _, key := range []string{"seq", "service", "kind", "request_id", "received_at", "devices", "state", "sightings", "account"} {
		if _, ok := entry[key]; !ok {
			errs = append(errs, fmt.Errorf("list lacks %s: it has %v", key, slices.Sorted(maps.Keys(entry))))
		}
		if fmt.Sprint(line[key]) != fmt.Sprint(entry[key]) {
			errs = append(errs, fmt.Errorf("export has %s %v, list has %v", key, line[key], entry[key]))
		}
	}
	if payload, _ := line["payload"].(string); !strings.Contains(payload, "Envelope") {
		errs = append(errs, fmt.Errorf("payload is %q", line["payload"]))
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(entry["received_at"])); err != nil || time.Since(at) > time.Hour {
		errs = append(errs, fmt.Errorf("received_at is %v", entry["received_at"]))
	}
	if devices, ok := entry["devices"].([]any); !ok || len(devices) == 0 {
		errs = append(errs, fmt.Errorf("devices are %v", entry["devices"]))
	}
	return errors.Join(errs...)
}
