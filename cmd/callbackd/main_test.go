package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the program itself when a test starts this binary as one.
func TestMain(m *testing.M) {
	if os.Getenv("CALLBACKD_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a callbackd of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *bytes.Buffer // what it has logged until a line was waited for, and all of it when it has ended
	lines  *bufio.Reader
	config string
}

// serve starts `callbackd serve` on ports of the system's choice and waits until it receives.
func serve(t *testing.T, more string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, log: &bytes.Buffer{}, config: filepath.Join(dir, "callbackd.yaml")}
	text := "data_dir: data\nadmin: {listen: 127.0.0.1:0}\nallow_anonymous: true\nservices: {DeviceUsage: {listen: 127.0.0.1:0}}\n" + more
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = command(t, "serve", "--config", p.config)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(stderr)
	p.line(`"msg":"receiving"`)
	return p
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CALLBACKD_TEST_MAIN=1")
	return cmd
}

// line reads the log up to a line that contains text.
func (p *process) line(text string) string {
	p.t.Helper()
	for {
		line, err := p.lines.ReadString('\n')
		p.log.WriteString(line)
		if strings.Contains(line, text) {
			return line
		}
		if err != nil {
			p.t.Fatalf("the log ends without %s:\n%s", text, p.log)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait reads the log to its end and returns how the process ended.
func (p *process) wait() error {
	if _, err := io.Copy(p.log, p.lines); err != nil {
		p.t.Fatal(err)
	}
	return p.cmd.Wait()
}

func TestSIGTERMDrainsAndExitsWithZero(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := serve(t, "")
		p.signal(s)
		if err := p.wait(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, p.log)
		}
		order := []string{`"part":"dispatcher"`, `"part":"receiver"`, `"part":"control"`, `"part":"admin"`, `"msg":"stopped"`}
		rest := p.log.String()
		for _, step := range order {
			_, after, found := strings.Cut(rest, step)
			if !found {
				t.Fatalf("%s: %s is not in the log, or not in its place:\n%s", s, step, p.log)
			}
			rest = after
		}
	}
}

// TestSIGHUPHasTheConfigurationReadAgain, and ends nothing.
func TestSIGHUPHasTheConfigurationReadAgain(t *testing.T) {
	t.Parallel()
	p := serve(t, "")
	p.signal(syscall.SIGHUP)
	if line := p.line("the configuration was read again"); !strings.Contains(line, `"cause":"SIGHUP","result":"unchanged"`) {
		t.Errorf("the log says %s", line)
	}
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
}

// TestASecondSignalEndsAtOnce interrupts a lame duck of an hour, during which callbacks are still taken and readiness is off.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := serve(t, "shutdown: {lame_duck: 1h}\n")
	var service, admin string
	receiving := p.log.String()
	if _, err := fmt.Sscanf(receiving[strings.Index(receiving, `"services":`):], `"services":["DeviceUsage %s`, &service); err != nil {
		t.Fatalf("%v: %s", err, receiving)
	}
	service, admin, _ = strings.Cut(strings.TrimSuffix(service, "\n"), `"],"admin":"`)
	admin, _, _ = strings.Cut(admin, `"`)
	for get(t, "http://"+admin+"/readyz") != http.StatusOK { // the listeners are a moment behind the log; the test's time-out ends this
	}
	p.signal(syscall.SIGTERM)
	p.line("lame duck")
	if status := get(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d to a lame duck", status)
	}
	if out, err := command(t, "send", "--service", "DeviceUsage", "--url", "http://"+service+"/", "--config", p.config).CombinedOutput(); err != nil {
		t.Errorf("a lame duck takes no callback: %v\n%s", err, out)
	}
	p.signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := p.wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v\n%s", err, p.log)
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestExitCodesReachTheShell(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"version": 0, "frobnicate": 2, "inbox show 1 --config " + filepath.Join(t.TempDir(), "none.yaml"): 2} {
		cmd := command(t, strings.Fields(args)...)
		_ = cmd.Run() // the exit code is looked at
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("callbackd %s: exit code %d, want %d", args, got, want)
		}
	}
}
