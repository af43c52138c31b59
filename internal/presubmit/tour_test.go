package presubmit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/counterpart"
)

// TestTheREADME does what the README says, in a copy of the tree: every sh block runs and succeeds, every file that it shows is saved
// under the name that it gives, a background block runs until the end, and what a text block shows after a command is in its output.
//
// `make test` is not run from within itself; the guard "gate" sees to it that it is what CI runs.
func TestTheREADME(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "make"} {
		counterpart.Program(t, program, "whether the commands of the README do what it says")
	}
	tr := checkout(t)
	tour := &tour{dir: t.TempDir(), document: "README.md"}
	tr.copyTo(t, tour.dir)
	tour.forget(t, tr.read("README.md"))
	for _, b := range blocks(elsewhere(t, tr.read("README.md"), 28211)) {
		ok := true
		switch {
		case b.info == "yaml", b.info == "go handler":
			tour.save(t, b)
		case b.info == "text":
			tour.compare(t, b)
		case b.info == "sh background":
			tour.start(t, b)
		case strings.HasPrefix(b.info, "sh"):
			for line := range strings.Lines(b.text) {
				ok = t.Run(strings.TrimSpace(line), func(t *testing.T) { tour.run(t, strings.TrimSpace(line)) }) && ok
			}
		}
		if !ok || t.Failed() {
			t.Fatalf("README.md:%d: the tour ends here", b.line)
		}
	}
	tour.end(t)
}

// tour is a walk through a document.
type tour struct {
	dir      string
	document string   // its path in the tree
	env      []string // nil: that of the test
	output   string   // of the last command
	admin    string   // address of the admin listener in the last configuration

	background []*background // the last started comes last
}

// background is a program that runs until the end of the tour, or until its line is run anew.
type background struct {
	*exec.Cmd
	line  string
	ended chan error
	log   *output
}

// forget takes out of the copy what somebody who has followed the tour has in the tree: the handler types that it begins.
func (w *tour) forget(t *testing.T, document string) {
	t.Helper()
	list := filepath.Join(w.dir, "internal", "handler", "builtin", "builtin.go")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, begun := range regexp.MustCompile(`handler new (\w+)`).FindAllStringSubmatch(document, -1) {
		text = regexp.MustCompile(`(?m)^.*(/`+begun[1]+`"|\b`+begun[1]+`\.Type\(\),)\n`).ReplaceAll(text, nil)
		if err := os.RemoveAll(filepath.Join(w.dir, "internal", "handler", begun[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(list, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyTo copies the tree.
func (tr *tree) copyTo(t *testing.T, dir string) {
	t.Helper()
	for _, name := range tr.files {
		from, to := filepath.Join(tr.root, filepath.FromSlash(name)), filepath.Join(dir, filepath.FromSlash(name))
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	adminAddress = regexp.MustCompile(`(?m)^admin:\s*\{\s*listen:\s*([^\s},]+)`)
	anyAddress   = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
)

// elsewhere gives each address in the document another port, all over, for somebody may be using those on this machine. It stays
// one that the platform registers, above port, so that documents that are toured at once need not meet.
func elsewhere(t *testing.T, document string, port int) string {
	t.Helper()
	free := map[string]string{}
	for _, address := range anyAddress.FindAllString(document, -1) {
		for free[address] == "" {
			if port++; port == 28221 {
				port = 50551
			}
			if port > 50559 {
				t.Fatal("no port that the platform registers is free on this machine: 28212-28220, 50551-50559")
			}
			if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
				free[address] = l.Addr().String()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return anyAddress.ReplaceAllStringFunc(document, func(address string) string { return free[address] })
}

// save writes a file that the document shows.
func (w *tour) save(t *testing.T, b block) {
	t.Helper()
	if m := adminAddress.FindStringSubmatch(b.text); m != nil {
		w.admin = m[1]
	}
	name := filepath.Join(w.dir, filepath.FromSlash(b.file()))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(b.text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// await polls: what other processes do gives no other sign.
func await(t *testing.T, ctx context.Context, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// command prepares a line for the shell, in a process group of its own so that all that it starts can be stopped.
func (w *tour) command(ctx context.Context, line string, out io.Writer) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-euc", line)
	c.Dir, c.Env, c.Stdout, c.Stderr = w.dir, w.env, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	return c
}

// run runs one line of a block.
func (w *tour) run(t *testing.T, line string) {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	switch program, _, _ := strings.Cut(line, " "); {
	case line == "make test":
		return
	case line == "make run":
		w.watch(ctx, t, line)
		return
	case program == "curl":
		counterpart.Program(t, program, "the look of "+w.document+" at "+line)
	}
	var out bytes.Buffer
	err := w.command(ctx, line, &out).Run()
	w.output = out.String()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, w.output)
	}
}

// acknowledged is what a newcomer sees of `make run`.
const acknowledged = "acknowledged after"

// watch runs what has no end, until it shows that it works, and interrupts it as Ctrl-C does.
func (w *tour) watch(ctx context.Context, t *testing.T, line string) {
	t.Helper()
	out := &output{}
	c := w.command(ctx, line, out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }() // how make and go report a Ctrl-C is theirs to choose
	await(t, ctx, "a sign of life of "+line, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended by itself:\n%s", line, out)
		default:
		}
		return strings.Count(out.String(), acknowledged) >= 2
	})
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s goes on 30 s after Ctrl-C:\n%s", line, out)
	}
	if strings.Contains(out.String(), "panic") {
		t.Errorf("%s panicked:\n%s", line, out)
	}
}

// start runs a block until the end of the tour, and waits until it is ready: until it accepts connections at the address that its line
// names, or, if it names none, until the admin listener of the last configuration says so. What runs of the same line is stopped before.
func (w *tour) start(t *testing.T, b block) {
	t.Helper()
	p := &background{line: strings.TrimSpace(b.text), ended: make(chan error, 1), log: &output{}}
	w.background = slices.DeleteFunc(w.background, func(running *background) bool {
		again := running.line == p.line
		if again {
			running.end(t)
		}
		return again
	})
	p.Cmd = w.command(context.WithoutCancel(t.Context()), "exec "+p.line, p.log)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.background = append(w.background, p)
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { w.end(t) })
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	await(t, ctx, "a sign that this is ready: "+p.line, func() bool {
		select {
		case err := <-p.ended:
			w.background = slices.DeleteFunc(w.background, func(running *background) bool { return running == p })
			t.Fatalf("%s ended by itself: %v\n%s", p.line, err, p.log)
		default:
		}
		if address := anyAddress.FindString(p.line); address != "" {
			conn, err := net.Dial("tcp", address)
			return err == nil && conn.Close() == nil
		}
		response, err := http.Get("http://" + w.admin + "/readyz")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}

// end stops what runs in the background, the last started first.
func (w *tour) end(t *testing.T) {
	t.Helper()
	for _, p := range slices.Backward(w.background) {
		p.end(t)
	}
	w.background = nil
}

// end stops the program, which has to go in peace.
func (p *background) end(t *testing.T) {
	t.Helper()
	kill := time.AfterFunc(45*time.Second, func() { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) })
	defer kill.Stop()
	if err := syscall.Kill(-p.Process.Pid, syscall.SIGTERM); err != nil {
		t.Errorf("stop %s: %v\n%s", p.line, err, p.log)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("%s ended with %v:\n%s", p.line, err, p.log)
	}
}

// compare holds a text block against the last output: each of its lines is there, white space aside.
func (w *tour) compare(t *testing.T, b block) {
	t.Helper()
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	output := squeeze(w.output)
	for line := range strings.Lines(b.text) {
		if line = squeeze(line); !strings.Contains(output, line) {
			t.Errorf("%s:%d shows %q, the output is\n%s", w.document, b.line, line, w.output)
		}
	}
}

// output is what a process says, read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// TestATourFindsWhatIsWrong shows the tour commands that fail, and outputs that are not what was shown.
func TestATourFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	counterpart.Program(t, "sh", "whether a tour notices what is wrong")
	w := &tour{dir: t.TempDir()}
	var out bytes.Buffer
	if err := w.command(t.Context(), "false; true", &out).Run(); err == nil {
		t.Error("a command that fails in the middle of a line passes")
	}
	if err := w.command(t.Context(), "echo $UNSET_IN_THIS_TEST", &out).Run(); err == nil {
		t.Error("a variable that nobody set passes")
	}
	got := blocks("a `x.yaml`:\n\n```yaml\na: 1\n```\nrun\n```sh background\nb\n```\n")
	if moved := elsewhere(t, "127.0.0.1:28204 127.0.0.1:9400 127.0.0.1:28204", 28217); moved[:15] == moved[16:31] || moved[:15] != moved[32:] || strings.Contains(moved, "9400") {
		t.Errorf("addresses moved to %s", moved)
	}
	if len(got) != 2 || got[0].file() != "x.yaml" || got[0].text != "a: 1\n" || got[0].line != 3 || got[1].info != "sh background" || got[1].before != "run" {
		t.Errorf("blocks are %+v", got)
	}
}
