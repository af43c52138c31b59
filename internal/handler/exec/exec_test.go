package exec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/exec"
	"callbackd/internal/handler/handlertest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// shell is a handler's configuration that runs a script; $1 and so on are args. The shell is the test's: exec itself uses none.
func shell(script string, args ...string) *exec.Config {
	c := exec.Type().Config().(*exec.Config)
	c.Command = append([]string{"/bin/sh", "-c", script, "script"}, args...)
	return c
}

// environment is callbackd's own, as the handlers under test see it.
func environment(name string) (string, bool) {
	value, ok := map[string]string{"PATH": os.Getenv("PATH"), "TOKEN": "t0ken", "EMPTY": "", "UNNAMED": "x"}[name]
	return value, ok
}

func env() handler.Env {
	return handler.Env{Name: "script", Log: zap.NewNop(), Registerer: prometheus.NewRegistry(), LookupEnv: environment}
}

func open(t testing.TB, c *exec.Config, e handler.Env) handler.Handler {
	t.Helper()
	if problems := c.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	h, err := c.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSuite(t *testing.T) {
	t.Parallel()
	with := func(script string) func(testing.TB, handler.Env) handler.Handler {
		return func(t testing.TB, e handler.Env) handler.Handler {
			e.LookupEnv = environment
			return open(t, shell(script), e)
		}
	}
	handlertest.Run(t, handlertest.Subject{Type: exec.Type(), Open: with("cat >/dev/null"), Broken: with("cat; exit 1")})
}

func TestTheProgramReadsTheEvent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events")
	h := open(t, shell(`cat >>"$1"`, file), env())
	var want bytes.Buffer
	for _, d := range handlertest.Deliveries() {
		if err := h.Handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(d.Event()); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, file); got != want.String() {
		t.Errorf("the program read\n%s\nwant\n%s", got, want.String())
	}
}

// big is a delivery that no pipe holds at once.
func big() *handler.Delivery {
	d := handlertest.Delivery(callback.KindSmsMessage)
	d.Callback.SmsMessage.Text = strings.Repeat("0123456789abcdef", 1<<16)
	return d
}

func TestALargeEventReachesTheProgramWhole(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "event")
	if err := open(t, shell(`cat >"$1"`, file), env()).Handle(t.Context(), big()); err != nil {
		t.Fatal(err)
	}
	var e handler.Event
	if err := json.Unmarshal([]byte(read(t, file)), &e); err != nil || len(e.Data.SmsMessage.Text) != 1<<20 {
		t.Errorf("the program read %d bytes of the text, %v", len(e.Data.SmsMessage.Text), err)
	}
}

// outcomes are the runs that were counted, but for those of which there were none.
func outcomes(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				counts[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return counts
}

func TestTheExitCodeIsTheVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		script, outcome, want string
		bury                  bool
	}{
		{"exit 0", "done", "", false},
		{"exit 75", "retry", "exited with 75: it asks to try again", false},
		{"exit 65", "bury", "exited with 65: it refuses the event", true},
		{"exit 1", "failed", "exited with 1:", false},
		{"exit 127", "failed", "exited with 127:", false},
		{"exit 255", "failed", "exited with 255:", false},
		{"kill -9 $$", "killed", "killed by signal 9 (killed)", false},
		{"kill -15 $$", "killed", "killed by signal 15 (terminated)", false},
	} {
		t.Run(test.script, func(t *testing.T) {
			t.Parallel()
			e, reg := env(), prometheus.NewRegistry()
			e.Registerer = reg
			err := open(t, shell(test.script), e).Handle(t.Context(), big()) // which none of them reads
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || handler.IsPermanent(err) != test.bury {
				t.Errorf("error is %v, permanent %v; want %q, %v", err, handler.IsPermanent(err), test.want, test.bury)
			}
			if got := outcomes(t, reg); len(got) != 1 || got[test.outcome] != 1 {
				t.Errorf("counted are %v, want one %s", got, test.outcome)
			}
		})
	}
}

func TestEveryOutcomeIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	e, reg := env(), prometheus.NewRegistry()
	e.Registerer = reg
	h := open(t, shell(""), e)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "callbackd_exec_runs_total" || len(families[0].GetMetric()) != 7 {
		t.Errorf("the metrics are %v, %v", families, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, shell(""), e) // which would fail if the metrics were still there
}

func TestTheProgramGetsWhatIsNamedAndNothingElse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "environment")
	c := shell(`env >"$1"`, file)
	c.Environment = []string{"TOKEN", "EMPTY"}
	d := handlertest.Delivery(callback.KindUsage)
	d.Attempt, d.Replay, d.Flags = 3, true, []string{"test", "repeat"}
	if err := open(t, c, env()).Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(read(t, file)) {
		name, _, _ := strings.Cut(line, "=")
		if !slices.Contains([]string{"PWD", "SHLVL", "_", "OLDPWD"}, name) { // the shell's own
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(got)
	want := []string{"CALLBACKD_ACCOUNT=main", "CALLBACKD_ATTEMPT=3", "CALLBACKD_DELIVERY_ID=" + d.ID, "CALLBACKD_FLAGS=test,repeat", "CALLBACKD_HANDLER=script",
		"CALLBACKD_KIND=Usage", "CALLBACKD_REPLAY=true", "CALLBACKD_SEQUENCE=" + strconv.FormatInt(d.Seq, 10), "CALLBACKD_SERVICE=DeviceUsage", "EMPTY=",
		"PATH=" + os.Getenv("PATH"), "TOKEN=t0ken"}
	if !slices.Equal(got, want) {
		t.Errorf("environment is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestTheProgramRunsInItsDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := shell("pwd >here")
	c.Directory = dir
	if err := open(t, c, env()).Handle(t.Context(), handlertest.Deliveries()[0]); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(read(t, filepath.Join(dir, "here"))); got != dir {
		t.Errorf("it runs in %s, want %s", got, dir)
	}
}

// TestArgumentsAreNoShells: what a shell would read as more than a text reaches the program as it is.
func TestArgumentsAreNoShells(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "arguments")
	args := []string{file, "$(touch x)", "; exit 3", "*", "a b", ""}
	if err := open(t, shell(`printf '%s\n' "$@" >"$1"`, args...), env()).Handle(t.Context(), handlertest.Deliveries()[0]); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, file), strings.Join(args, "\n")+"\n"; got != want {
		t.Errorf("arguments are %q, want %q", got, want)
	}
}

func TestADescriptorThatCallbackdWasStartedWithIsNotInherited(t *testing.T) {
	t.Parallel()
	inherited, err := unix.Open(t.TempDir(), unix.O_RDONLY, 0) // without O_CLOEXEC, as from a parent
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	file := filepath.Join(t.TempDir(), "descriptors")
	if err := open(t, shell(`ls /dev/fd >"$1"; test ! -e /dev/fd/$2`, file, strconv.Itoa(inherited)), env()).Handle(t.Context(), handlertest.Deliveries()[0]); err != nil {
		t.Errorf("%v: descriptor %d is among\n%s", err, inherited, read(t, file))
	}
}

// processes are those that wrote their number to the file.
func processes(t *testing.T, file string) (pids []int) {
	t.Helper()
	for field := range strings.FieldsSeq(read(t, file)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// alive reports whether a process runs; one that nobody has buried yet does not.
func alive(pid int) bool {
	if unix.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func expectNobody(t *testing.T, file string, count int) {
	t.Helper()
	pids := processes(t, file)
	if len(pids) != count {
		t.Fatalf("%d processes told their numbers, want %d", len(pids), count)
	}
	deadline := time.After(5 * time.Second) // what was killed takes a moment to die
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for slices.ContainsFunc(pids, alive) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("of %v some live on", pids)
		}
	}
}

// TestTheProgramIsStoppedAtTheEndOfItsTime: SIGTERM first, SIGKILL for what does not heed it, for it and all it has started.
func TestTheProgramIsStoppedAtTheEndOfItsTime(t *testing.T) {
	t.Parallel()
	const ready = `; echo $$ >>"$1"; mv "$1" "$2"; sleep 60 & wait $!`
	for _, test := range []struct {
		rule, script, want string
		processes          int
		least, most        time.Duration
	}{
		{"one that heeds SIGTERM", `trap 'exit 9' TERM` + ready, "was stopped", 1, 0, 5 * time.Second},
		{"one that says then that it is done", `trap 'exit 0' TERM` + ready, "", 1, 0, 5 * time.Second},
		{"one that refuses the event then is not believed", `trap 'exit 65' TERM` + ready, "was stopped", 1, 0, 5 * time.Second},
		{"one that ignores SIGTERM", `trap '' TERM` + ready, "was stopped", 1, 200 * time.Millisecond, 5 * time.Second},
		{"one with a child that ignores it", `sh -c 'trap "" TERM; echo $$; sleep 60' >>"$1" & while ! test -s "$1"; do :; done` + ready,
			"was stopped", 2, 0, 5 * time.Second},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, started := filepath.Join(dir, "pids"), filepath.Join(dir, "started")
			c := shell(test.script, file, started)
			c.Grace = 200 * time.Millisecond
			h := open(t, c, env())
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- h.Handle(deadline{ctx}, handlertest.Deliveries()[0]) }()
			await(t, started)
			from := time.Now()
			cancel(nil)
			err := <-ended
			if took := time.Since(from); took < test.least || took > test.most {
				t.Errorf("it took %s, want %s to %s", took, test.least, test.most)
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || handler.IsPermanent(err) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
			expectNobody(t, started, test.processes)
		})
	}
}

// deadline is a context whose end looks like that of a time-out.
type deadline struct{ context.Context }

func (d deadline) Err() error {
	if d.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// await waits for a file to be there.
func await(t *testing.T, file string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := os.Stat(file); err == nil {
				return
			}
		case <-limit:
			t.Fatal("the program did not get so far")
		}
	}
}

// TestAShutdownHasNoTimeForTheGrace: the dispatcher leaves behind what does not return within a second.
func TestAShutdownHasNoTimeForTheGrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, started := filepath.Join(dir, "pids"), filepath.Join(dir, "started")
	c := shell(`trap '' TERM; echo $$ >"$1"; mv "$1" "$2"; sleep 60`, file, started)
	c.Grace = 8 * time.Second
	h := open(t, c, env())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Handle(ctx, handlertest.Deliveries()[0]) }()
	await(t, started)
	from := time.Now()
	cancel()
	if err := <-ended; err == nil || time.Since(from) > 4*time.Second {
		t.Errorf("after %s: %v", time.Since(from), err)
	}
	expectNobody(t, started, 1)
}

// TestWhatOutlivesTheProgramIsKilled: a child in the background keeps neither the delivery nor a process, even when it holds the pipes.
func TestWhatOutlivesTheProgramIsKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	c := shell(`for i in 1 2 3; do sh -c 'trap "" TERM HUP; echo $$ >>"$0"; sleep 60' "$1" & done
		while test "$(wc -l <"$1" 2>/dev/null || echo 0)" -lt 3; do :; done`, file)
	c.LogOutput = true
	if err := open(t, c, env()).Handle(t.Context(), big()); err != nil {
		t.Fatal(err)
	}
	expectNobody(t, file, 3)
}

func TestOutputIsReadAndBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule, script string
		on           bool
		want         []string
	}{
		{"nothing unless asked for", "echo secret", false, nil},
		{"the first line", "echo one; echo two", true, []string{"one"}},
		{"of the error output too", "echo wrong >&2; exit 1", true, []string{"wrong"}},
		{"nothing of nothing", "", true, nil},
		{"a part of a line without end", "head -c 8000000 /dev/zero | tr '\\0' x", true, []string{strings.Repeat("x", 512)}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zapcore.DebugLevel)
			e := env()
			e.Log = zap.New(core)
			c := shell(test.script)
			c.LogOutput = test.on
			_ = open(t, c, e).Handle(t.Context(), handlertest.Deliveries()[0]) // another test looks at verdicts
			var got []string
			for _, entry := range logs.All() {
				if entry.Level != zapcore.DebugLevel || entry.ContextMap()["delivery"] != handlertest.Deliveries()[0].ID {
					t.Errorf("entry %+v", entry)
				}
				got = append(got, entry.ContextMap()["first_line"].(string))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the log has %q, want %q", got, test.want)
			}
		})
	}
}

// TestAProgramThatGoesAwayIsToldAndComesBack: its deliveries are retries, and Ready says why until one can be started.
func TestAProgramThatGoesAwayIsToldAndComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link, away := filepath.Join(dir, "program"), filepath.Join(dir, "away")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	e, reg := env(), prometheus.NewRegistry()
	e.Registerer = reg
	c := shell("exit 0")
	c.Command[0] = link
	h := open(t, c, e)
	ready := h.(handler.Readier).Ready
	if err := errors.Join(ready(), os.Rename(link, away)); err != nil {
		t.Fatal(err)
	}
	err := h.Handle(t.Context(), handlertest.Deliveries()[0])
	if err == nil || handler.IsPermanent(err) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), link) {
		t.Errorf("error is %v", err)
	}
	if got := ready(); got == nil || got.Error() != err.Error() {
		t.Errorf("readiness is %v, want %v", got, err)
	}
	if err := errors.Join(os.Rename(away, link), h.Handle(t.Context(), handlertest.Deliveries()[0]), ready()); err != nil {
		t.Error(err)
	}
	if got := outcomes(t, reg); got["unstarted"] != 1 || got["done"] != 1 {
		t.Errorf("counted are %v", got)
	}
}

func TestWhatCannotBeRunIsToldClearly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule   string
		change func(*exec.Config)
		want   string
	}{
		{"a missing program", func(c *exec.Config) { c.Command = []string{dir + "/none"} }, "command: there is no program " + dir + "/none"},
		{"a missing name", func(c *exec.Config) { c.Command = []string{"no-such-program"} }, "command: there is no program no-such-program"},
		{"a command line in one text", func(c *exec.Config) { c.Command = []string{"/bin/sh -c true"} },
			"command: there is no program /bin/sh -c true; arguments are further items of the list, and no shell divides the first"},
		{"a file that is no program", func(c *exec.Config) { c.Command = []string{plain} },
			"command: " + plain + " cannot be run by the user that callbackd runs as: make it executable (chmod +x)"},
		{"a missing directory", func(c *exec.Config) { c.Directory = dir + "/none" },
			"directory: there is no folder " + dir + "/none that the user callbackd runs as can enter: create it"},
		{"a file for a directory", func(c *exec.Config) { c.Directory = plain },
			"directory: there is no folder " + plain + " that the user callbackd runs as can enter: create it"},
		{"a variable that is not there", func(c *exec.Config) { c.Environment = []string{"ABSENT"} },
			"environment: callbackd has no ABSENT in its environment: set it where callbackd is started, and start it again"},
	} {
		c := shell("")
		test.change(c)
		if _, err := c.Open(t.Context(), env()); err == nil || err.Error() != test.want {
			t.Errorf("%s: error is %v, want %s", test.rule, err, test.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		change func(*exec.Config)
		want   string
	}{
		{"the least", func(*exec.Config) {}, "[]"},
		{"a name to look up", func(c *exec.Config) { c.Command = []string{"sh"} }, "[]"},
		{"no command", func(c *exec.Config) { c.Command = nil },
			"[command: missing: a list of the program and its arguments, such as [/usr/local/bin/on-usage, --quiet]]"},
		{"an empty program", func(c *exec.Config) { c.Command = []string{""} }, "[command: the first of the list is the program, and is empty]"},
		{"a relative program", func(c *exec.Config) { c.Command = []string{"bin/sh"} },
			`[command: "bin/sh" must be absolute, or a name alone, which is looked up in PATH]`},
		{"a relative directory", func(c *exec.Config) { c.Directory = "here" },
			`[directory: "here" must be absolute, for the working directory of a service is nobody's choice]`},
		{"a value that may be a secret", func(c *exec.Config) { c.Environment = []string{"TOKEN=hunter2"} },
			`[environment: name "TOKEN" alone: the value is the one that callbackd itself has in its environment]`},
		{"no name of a variable", func(c *exec.Config) { c.Environment = []string{"2ND"} },
			`[environment: "2ND" is no name of a variable: letters, digits and _, no digit first]`},
		{"a name of callbackd's", func(c *exec.Config) { c.Environment = []string{"CALLBACKD_KIND"} },
			"[environment: CALLBACKD_KIND: names that begin with CALLBACKD_ tell of the delivery and of callbackd itself]"},
		{"PATH", func(c *exec.Config) { c.Environment = []string{"PATH"} }, "[environment: PATH is passed in any case: take it off the list]"},
		{"a name twice", func(c *exec.Config) { c.Environment = []string{"A", "B", "A"} }, "[environment: A stands twice]"},
		{"no grace", func(c *exec.Config) { c.Grace = 0 }, "[grace: must be more than nothing and at most 8s; 5s is the default]"},
		{"a long grace", func(c *exec.Config) { c.Grace = time.Minute }, "[grace: must be more than nothing and at most 8s; 5s is the default]"},
	} {
		c := shell("")
		test.change(c)
		if got := fmt.Sprint(c.Validate()); got != test.want {
			t.Errorf("%s: %s, want %s", test.rule, got, test.want)
		}
	}
}

func TestWhatIsMadeAbsolute(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]bool{"bin/sh": true, "./sh": true, "sh": false, "": false} {
		c := &exec.Config{Command: []string{command}}
		if _, got := c.Paths()["command"]; got != want {
			t.Errorf("%q is among the paths: %v", command, got)
		}
	}
	if paths := (&exec.Config{}).Paths(); len(paths) != 1 || paths["directory"] == nil {
		t.Errorf("paths are %v", paths)
	}
}

// TestTheDocumentedScript runs the script that the README shows.
func TestTheDocumentedScript(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(read(t, "README.md"), "```sh\n")
	script, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README shows no script")
	}
	for _, test := range []struct {
		curl, want string
	}{
		{"cat >/dev/null", ""},
		{"cat >/dev/null; return 22", "exited with 75"},
	} {
		c := shell("curl() { " + test.curl + "; }\n" + script)
		err := open(t, c, env()).Handle(t.Context(), handlertest.Delivery(callback.KindUsage))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("with %q: %v, want %q", test.curl, err, test.want)
		}
	}
}
