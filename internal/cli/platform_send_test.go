//go:build linux

package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/cli"

	"golang.org/x/sys/unix"
)

// terminal opens a pair of a terminal's two ends.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return user, program
}

// ordered is a simulator with a listener, and the arguments of an order to it.
func ordered(t *testing.T, order string) (args []string) {
	t.Helper()
	listener := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(listener.Close)
	_, url := simulate(t)
	file := configured(t, url, "services:\n  DeviceUsage: {listen: 127.0.0.1:28204, public_url: \""+listener.URL+"/\"}\n"+
		"accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: uws}]\n")
	if code, out, errs := registrations(t, file, "apply"); code != 0 {
		t.Fatalf("apply exits with %d: %s%s", code, out, errs)
	}
	return append([]string{"platform", "send", "--platform", url}, strings.Fields(order)...)
}

// TestProgressLine: on a terminal there is one line, which is written over each second and gives way to what comes then. When the order is
// interrupted, its report comes.
func TestProgressLine(t *testing.T) {
	t.Parallel()
	user, program := terminal(t)
	args := ordered(t, "--rate 4 --duration 1h")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int, 1)
	var out bytes.Buffer
	go func() { ended <- cli.Main(ctx, args, strings.NewReader(""), &out, program) }()
	var shown []byte
	until := func(re string) {
		for pattern := regexp.MustCompile(re); !pattern.Match(shown); {
			b := make([]byte, 1<<10)
			n, err := user.Read(b)
			if shown = append(shown, b[:n]...); err != nil {
				t.Fatalf("the terminal shows %q: %v", shown, err)
			}
		}
	}
	until(`^\r\x1b\[K1 s: [45], [3-5] acknowledged, [01] under way\r\x1b\[K2 s: [89], [7-9] acknowledged, [01] under way`)
	interrupt()
	until(`under way\r\x1b\[Kcallbackd: stopped before the order's end\r\n$`)
	if code := <-ended; code != 1 || !regexp.MustCompile(`(?m)^total +\d+ +\d+ +\d+ +0 +0 `).MatchString(out.String()) {
		t.Errorf("exit code %d: %s", code, &out)
	}
}

// TestNoProgressLine where there is no terminal.
func TestNoProgressLine(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	args := ordered(t, "--rate 3 --count 5")
	if code := cli.Main(t.Context(), args, strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 || !strings.Contains(out.String(), "DeviceUsage") {
		t.Errorf("exit code %d: %s%s", code, &out, &errs)
	}
}
