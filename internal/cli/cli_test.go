package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"callbackd/internal/cli"
)

func TestDemoTellsWhatHappensAndSumsUp(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	if code := cli.Main(t.Context(), []string{"demo", "--count", "9", "--every", "1ms"}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	for _, want := range []string{
		`(?m)^  \S+ inbox list --config \S+callbackd.yaml$`,
		`(?m)^  DeviceUsage {10,}http://127\.0\.0\.1:\d+/$`,
		`(?m)^ResumeTrackingNotification  the published sample, to http://127\.0\.0\.1:\d+/$`,
		`(?m)^   acknowledged after \S+: stored$`,
		`(?m)^   handled: Comment for mdn:3124705797: .*Device will be auto resumed on - 3/15/2017`,
		`(?m)^   acknowledged after \S+: known already, so it is neither stored nor handled again$`,
		`(?m)^Unregistered: the platform holds 0 listeners\.$`,
		`(?m)^9 sent, 1 of them again; 9 acknowledged, 8 stored, 8 delivered; 0 in the platform's archive\.`,
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

// TestDemoStoppedBeforeItBegan: Ctrl-C is no failure, however early it comes.
func TestDemoStoppedBeforeItBegan(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errOut bytes.Buffer
	if code := cli.Main(ctx, []string{"demo"}, strings.NewReader(""), &out, &errOut); code != 0 || out.Len()+errOut.Len() > 0 {
		t.Errorf("exit code %d: %s%s", code, out.String(), errOut.String())
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

// TestDemoCanBeLookedInto runs two at once, so that one has not the default ports, and runs the commands that they show.
func TestDemoCanBeLookedInto(t *testing.T) {
	t.Parallel()
	first, second := startDemo(t), startDemo(t, "--verbose")
	for _, d := range []*shownDemo{first, second} {
		d.readTo("handled: ")
		file := configOf(t, d.text)
		for args, want := range map[string]string{"inbox list": "ResumeTrackingNotification", "registrations list": "ours     as it is",
			"send --service DeviceUsage": "acknowledged with 200"} {
			out, err := callbackd(t, append(strings.Fields(args), "--config", file)...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v\n%s", args, err, out)
			}
		}
		if err := d.cmd.Process.Signal(os.Interrupt); err != nil { // as Ctrl-C does
			t.Fatal(err)
		}
		d.readTo("Unregistered: the platform holds 0 listeners.")
		d.readTo(" sent, 0 of them again; ")
		if err := d.end(); err != nil {
			t.Errorf("%v\n%s", err, d.text)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s was left behind", file)
		}
	}
	if !strings.Contains(second.text, "receiver  received") {
		t.Errorf("--verbose shows no log:\n%s", second.text)
	}
}

// callbackd is a process of this program's own.
func callbackd(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, "callbackd", args...)
}

// shownDemo is a demo, and what has been read of it.
type shownDemo struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Reader
	text  string
}

func startDemo(t *testing.T, args ...string) *shownDemo {
	t.Helper()
	d := &shownDemo{t: t, cmd: callbackd(t, append([]string{"demo", "--every", "1h"}, args...)...)}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // so that nothing is left behind when the test fails
		_ = d.cmd.Process.Signal(os.Interrupt)
		_ = d.cmd.Wait()
	})
	d.lines = bufio.NewReader(stdout)
	return d
}

// readTo reads up to a line that contains the text.
func (d *shownDemo) readTo(text string) {
	d.t.Helper()
	for {
		line, err := d.lines.ReadString('\n')
		if d.text += line; strings.Contains(line, text) {
			return
		}
		if err != nil {
			d.t.Fatalf("the demo ends without %q: %v\n%s", text, err, d.text)
		}
	}
}

// end reads the rest, and returns how the demo ended.
func (d *shownDemo) end() error {
	rest, err := io.ReadAll(d.lines)
	d.text += string(rest)
	return errors.Join(err, d.cmd.Wait())
}
