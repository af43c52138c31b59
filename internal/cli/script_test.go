package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/cli"
)

// TestScripts runs each testdata/script/*.txtar: lines of commands, and then the files that they find, "-- name --" before each. In
// both, $WORK is the script's folder and $P1 to $P4 are ports that nobody has. The commands:
//
//	callbackd ARGS...           run it; it has to exit with 0
//	exit N callbackd ARGS...    ... with N
//	start callbackd ARGS...     run it beside the script
//	ready URL                   wait until the URL answers 200
//	stop [N]                    end what was started, as SIGTERM does; it has to exit with N, or 0
//	stdin FILE                  what the next callbackd reads; "stdout" is what the last one printed
//	stdout RE, stderr RE        what the last callbackd printed matches; ! before it: does not
//	until RE callbackd ARGS...  run it until what it prints matches
//	save FILE                   keep what the last callbackd printed
//	cp FROM TO, rm FILE, env NAME=VALUE (for the rest of the script; such a script runs alone)
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(paths) < 15 {
		t.Fatalf("%d scripts: %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			if !strings.Contains(string(text), "\nenv ") {
				t.Parallel()
			}
			runScript(t, string(text))
		})
	}
}

type script struct {
	t              *testing.T
	dir            string
	vars           *strings.Replacer
	stdin          string
	stdout, stderr string
	background     *background
}

// background is a command beside the script.
type background struct {
	cancel         context.CancelFunc
	code           chan int
	stdout, stderr *buffer
}

func runScript(t *testing.T, text string) {
	dir := t.TempDir()
	pairs := []string{"$WORK", dir}
	for i := 1; i <= 4; i++ {
		pairs = append(pairs, fmt.Sprintf("$P%d", i), strconv.Itoa(freePort(t)))
	}
	s := &script{t: t, dir: dir, vars: strings.NewReplacer(pairs...)}
	lines, name := "", ""
	for line := range strings.Lines(s.vars.Replace(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(rest, " --") {
			name = strings.TrimSuffix(rest, " --")
			s.write(name, "")
			continue
		}
		if name == "" {
			lines += line
		} else {
			s.write(name, s.read(name)+line)
		}
	}
	t.Cleanup(func() { s.end() })
	n := 0
	for line := range strings.Lines(lines) {
		n++
		if words := split(line); len(words) > 0 {
			if err := s.do(words); err != nil {
				t.Fatalf("line %d: %s%v\nstdout: %s\nstderr: %s\nbeside: %s", n, line, err, s.stdout, s.stderr, s.log())
			}
		}
	}
}

// freePort is one below those that the system hands out by itself.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(17_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
}

// split parts a line into words. Single quotes hold one together; # begins a comment.
func split(line string) []string {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\r\n")
		switch {
		case line == "" || line[0] == '#':
			return words
		case line[0] == '\'':
			word, rest, _ := strings.Cut(line[1:], "'")
			words, line = append(words, word), rest
		default:
			end := strings.IndexAny(line, " \t\r\n")
			if end < 0 {
				end = len(line)
			}
			words, line = append(words, line[:end]), line[end:]
		}
	}
}

func (s *script) do(words []string) error {
	switch args := words[1:]; words[0] {
	case "callbackd":
		return s.run(0, args)
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return s.run(code, args[2:])
	case "start":
		s.start(args[1:])
	case "ready":
		return s.ready(args[0])
	case "stop":
		return s.stop(args)
	case "until":
		return s.until(args[0], args[2:])
	case "stdin":
		if s.stdin = s.stdout; args[0] != "stdout" {
			s.stdin = s.read(args[0])
		}
	case "stdout", "stderr":
		return s.match(words[0], args[0], true)
	case "!":
		return s.match(args[0], args[1], false)
	case "save":
		s.write(args[0], s.stdout)
	case "cp":
		s.write(args[1], s.read(args[0]))
	case "rm":
		return os.RemoveAll(s.path(args[0]))
	case "env":
		name, value, _ := strings.Cut(args[0], "=")
		s.t.Setenv(name, value)
	default:
		return fmt.Errorf("no such command in a script")
	}
	return nil
}

func (s *script) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

func (s *script) read(name string) string {
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *script) write(name, text string) {
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) run(code int, args []string) error {
	var out, errOut bytes.Buffer
	got := cli.Main(s.t.Context(), args, strings.NewReader(s.stdin), &out, &errOut)
	s.stdin, s.stdout, s.stderr = "", out.String(), errOut.String()
	if got != code {
		return fmt.Errorf("exit code %d", got)
	}
	return nil
}

func (s *script) start(args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cancel: cancel, code: make(chan int, 1), stdout: &buffer{}, stderr: &buffer{}}
	s.background = b
	go func() { b.code <- cli.Main(ctx, args, strings.NewReader(""), b.stdout, b.stderr) }()
}

func (s *script) ready(url string) error {
	return s.poll(func() bool {
		response, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// poll waits for a condition, or gives up, or finds that what was started has ended.
func (s *script) poll(condition func() bool) error {
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var ended <-chan int
	if s.background != nil {
		ended = s.background.code
	}
	for !condition() {
		select {
		case <-tick.C:
		case code := <-ended:
			s.background.code <- code
			return fmt.Errorf("what was started has ended with %d", code)
		case <-deadline:
			return fmt.Errorf("gave up waiting")
		}
	}
	return nil
}

func (s *script) until(expression string, args []string) error {
	re, err := regexp.Compile("(?m)" + expression)
	if err != nil {
		return err
	}
	return s.poll(func() bool { return s.run(0, args) == nil && re.MatchString(s.stdout) })
}

func (s *script) stop(args []string) error {
	want := 0
	if len(args) > 0 {
		var err error
		if want, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	if got := s.end(); got != want {
		return fmt.Errorf("exit code %d", got)
	}
	return nil
}

// end ends what was started, and makes its output the last one.
func (s *script) end() int {
	b := s.background
	if b == nil {
		return -1
	}
	s.background = nil
	b.cancel()
	code := <-b.code
	s.stdout, s.stderr = b.stdout.String(), b.stderr.String()
	return code
}

func (s *script) log() string {
	if s.background == nil {
		return ""
	}
	return s.background.stdout.String() + s.background.stderr.String()
}

func (s *script) match(stream, expression string, want bool) error {
	re, err := regexp.Compile("(?m)" + expression)
	if err != nil {
		return err
	}
	text := s.stdout
	if stream == "stderr" {
		text = s.stderr
	}
	if re.MatchString(text) != want {
		return fmt.Errorf("%s: a match is %v", stream, !want)
	}
	return nil
}

// buffer is output that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
