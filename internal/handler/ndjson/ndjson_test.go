package ndjson_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/ndjson"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// child names the file that a run of this test binary, with a limit on the size of files, writes to.
const child = "CALLBACKD_NDJSON_CHILD"

func TestMain(m *testing.M) {
	flag.Parse()
	if path := os.Getenv(child); path != "" {
		if err := onAFullDisk(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path := os.Getenv(victim); path != "" {
		fmt.Println(writeUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func env() handler.Env {
	return handler.Env{Name: "events", Log: zap.NewNop(), Registerer: prometheus.NewRegistry()}
}

// config is the least configuration.
func config(path string) *ndjson.Config {
	c := ndjson.Type().Config().(*ndjson.Config)
	c.Path = path
	return c
}

func openAt(t testing.TB, path string) handler.Handler { return openWith(t, config(path), env()) }

func openWith(t testing.TB, c *ndjson.Config, e handler.Env) handler.Handler {
	t.Helper()
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

func eventsFile(t testing.TB) string { return filepath.Join(t.TempDir(), "events.ndjson") }

func handle(t testing.TB, h handler.Handler, deliveries ...*handler.Delivery) {
	t.Helper()
	for _, d := range deliveries {
		if err := h.Handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

// read reads the events in a file, each a whole line.
func read(t testing.TB, path string) (events []handler.Event) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Fatalf("%s ends in a line that is not whole: %q", path, text[max(0, len(text)-80):])
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e handler.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		events = append(events, e)
	}
	return events
}

func TestSuite(t *testing.T) {
	t.Parallel()
	handlertest.Run(t, handlertest.Subject{
		Type: ndjson.Type(),
		Open: func(t testing.TB, e handler.Env) handler.Handler {
			c := config(eventsFile(t))
			c.Fsync, c.Rotate, c.Gzip = ndjson.Interval, ndjson.Rotate{Size: 1, Age: time.Hour}, true // all that it can do
			return openWith(t, c, e)
		},
		Broken: func(t testing.TB, e handler.Env) handler.Handler { // the folder is taken away
			path := eventsFile(t)
			h := openWith(t, config(path), e)
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			return h
		},
	})
}

func TestOneEventALineInOrder(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	deliveries := handlertest.Deliveries()
	handle(t, openAt(t, path), deliveries...)
	events := read(t, path)
	if len(events) != len(deliveries) {
		t.Fatalf("%d lines for %d callbacks", len(events), len(deliveries))
	}
	for i, e := range events {
		want, err := json.Marshal(deliveries[i].Event())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(e); err != nil || !bytes.Equal(got, want) {
			t.Errorf("line %d is %s, want %s (%v)", i+1, got, want, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("<at> 8 &")) {
		t.Errorf("texts are escaped as if for HTML (%v)", err)
	}
}

func TestANewFileIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	handle(t, openAt(t, path), handlertest.Deliveries()[0])
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o", info.Mode().Perm())
	}
}

func TestAnOldFileKeepsItsModeAndContent(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	first := openAt(t, path)
	handle(t, first, handlertest.Deliveries()[0])
	if err := errors.Join(first.Close(), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	handle(t, openAt(t, path), handlertest.Deliveries()[1])
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 || len(read(t, path)) != 2 {
		t.Errorf("mode %v, %d lines (%v)", info.Mode(), len(read(t, path)), err)
	}
}

func TestItFollowsARename(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	h := openAt(t, path)
	d := handlertest.Deliveries()
	handle(t, h, d[0], d[1])
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	handle(t, h, d[2])
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o640); err != nil { // as logrotate's create does
		t.Fatal(err)
	}
	handle(t, h, d[3], d[4], d[5])
	if err := os.Truncate(path, 0); err != nil { // as its copytruncate does
		t.Fatal(err)
	}
	handle(t, h, d[6])
	for file, want := range map[string][]int64{path + ".1": {1, 2}, path + ".2": {3}, path: {7}} {
		var got []int64
		for _, e := range read(t, file) {
			var seq int64
			if _, err := fmt.Sscan(e.Sequence, &seq); err != nil {
				t.Fatal(err)
			}
			got = append(got, seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s holds %v, want %v", filepath.Base(file), got, want)
		}
	}
}

func TestItRecoversWhenItsFolderComesBack(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	h := openAt(t, path)
	d := handlertest.Deliveries()
	handle(t, h, d[0])
	folder := filepath.Dir(path)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := h.Handle(t.Context(), d[1]); err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "there is no folder "+folder) {
		t.Errorf("without its folder: %v", err)
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	handle(t, h, d[1])
	if n := len(read(t, path)); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestTheEndIsMendedWhenOpened(t *testing.T) {
	t.Parallel()
	whole := `{"specversion":"1.0","id":"a"}` + "\n"
	for _, test := range []struct{ rule, before, after string }{
		{"an empty file stays", "", ""},
		{"whole lines stay", whole + whole, whole + whole},
		{"a line cut short goes", whole + `{"specversion":"1.0","id":"b`, whole},
		{"a line cut at its first byte goes", whole + `{`, whole},
		{"a line cut short in the beginning goes", whole + `{"specver`, whole},
		{"a first line cut short goes", `{"specversion":"1.0"`, ""},
		{"a long line cut short goes", whole + `{"specversion":"` + strings.Repeat("x", 300<<10), whole},
		{"a line that only lacks its end goes, for it was never acknowledged", whole + strings.TrimSuffix(whole, "\n"), whole},
		{"what is not ours stays, and gets its line end", whole + "a remark", whole + "a remark\n"},
		{"a first line that is not ours stays", "[1,2]", "[1,2]\n"},
		{"a long line that is not ours stays", strings.Repeat("y", 200<<10), strings.Repeat("y", 200<<10) + "\n"},
		{"zeros that a crash left stay visible, and cost no further line", whole + "\x00\x00", whole + "\x00\x00\n"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			path := eventsFile(t)
			if err := os.WriteFile(path, []byte(test.before), 0o600); err != nil {
				t.Fatal(err)
			}
			openAt(t, path)
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(after) != test.after {
				t.Errorf("file of %d bytes, want %d: ...%.80q", len(after), len(test.after), after[max(0, len(after)-80):])
			}
		})
	}
}

func TestManyWritersShareAFile(t *testing.T) {
	t.Parallel()
	const writers, each = 16, 40
	path := eventsFile(t)
	h := openAt(t, path)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				d := handlertest.Deliveries()[i%len(callback.Kinds())]
				d.ID = fmt.Sprint(w, ".", i)
				if err := h.Handle(t.Context(), d); err != nil {
					t.Error(err)
				}
				if i == each/2 && w == 0 {
					if err := os.Rename(path, path+".1"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]int)
	for _, e := range append(read(t, path+".1"), read(t, path)...) {
		seen[e.ID]++
	}
	for w := range writers {
		for i := range each {
			if n := seen[fmt.Sprint(w, ".", i)]; n != 1 {
				t.Errorf("writer %d, event %d stands %d times", w, i, n)
			}
		}
	}
}

func TestWhatCannotBeOpenedIsToldClearly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	openAt(t, taken)
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ rule, path, want string }{
		{"a missing folder", filepath.Join(dir, "missing", "events.ndjson"),
			"path: there is no folder " + filepath.Join(dir, "missing") + ": create it, for the user that callbackd runs as"},
		{"a folder", dir, "path: " + dir + " is a folder: name a file in it"},
		{"a file where a folder should be", filepath.Join(plain, "events.ndjson"), "path: open " + filepath.Join(plain, "events.ndjson") + ": not a directory"},
		{"a pipe", pipe, "path: " + pipe + ": is no regular file, so nothing in it can be made durable"},
		{"a device", "/dev/null", "path: /dev/null: is no regular file, so nothing in it can be made durable"},
		{"a file that another handler writes", taken, "path: " + taken + ": another handler or program writes it: give each a file of its own"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			_, err := config(test.path).Open(t.Context(), env())
			if err == nil || err.Error() != test.want {
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		change func(*ndjson.Config)
		want   string
	}{
		{"the least", func(*ndjson.Config) {}, "[]"},
		{"no path", func(c *ndjson.Config) { c.Path = "" }, "[path: the file to append to is missing]"},
		{"a relative path", func(c *ndjson.Config) { c.Path = "events.ndjson" },
			`[path: "events.ndjson" must be absolute, for the working directory of a service is nobody's choice]`},
		{"another word", func(c *ndjson.Config) { c.Fsync = "sometimes" }, `[fsync: "sometimes" is none of always, interval, never]`},
		{"no interval", func(c *ndjson.Config) { c.FsyncInterval = 0 }, "[fsync_interval: must be more than nothing and at most 1h0m0s; 1s is the default]"},
		{"a small file", func(c *ndjson.Config) { c.Rotate.Size = 1 << 10 }, "[rotate.size: 1KiB is less than 64KiB: every few lines would have a file of their own]"},
		{"a short time", func(c *ndjson.Config) { c.Rotate.Age = time.Second }, "[rotate.age: must be at least 1m0s, or 0s for never]"},
		{"fewer than none", func(c *ndjson.Config) { c.Rotate.Age, c.Keep.Files = time.Hour, -1 }, "[keep.files: must not be negative; 0 keeps all]"},
		{"nothing to compress", func(c *ndjson.Config) { c.Gzip = true },
			"[rotate: missing: only files that callbackd has renamed itself are compressed and removed; set size or age]"},
		{"nothing to remove", func(c *ndjson.Config) { c.Keep.Age = time.Hour },
			"[rotate: missing: only files that callbackd has renamed itself are compressed and removed; set size or age]"},
		{"all of it", func(c *ndjson.Config) {
			c.Fsync, c.Rotate, c.Keep, c.Gzip = ndjson.Never, ndjson.Rotate{Size: 64 << 10, Age: time.Minute}, ndjson.Keep{Files: 1, Age: 1, Size: 1}, true
		}, "[]"},
	} {
		c := config("/var/lib/callbackd/events.ndjson")
		test.change(c)
		if got := fmt.Sprint(c.Validate()); got != test.want {
			t.Errorf("%s: %s, want %s", test.rule, got, test.want)
		}
		if *c.Paths()["path"] != c.Path {
			t.Errorf("%s: path %q is not among the paths to make absolute", test.rule, c.Path)
		}
	}
}

// TestAFullDisk lets a child of this test run into a limit on the size of files, which cuts a line short as a full disk does.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), child+"="+path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if events := read(t, path); len(events) != 2 || events[1].Sequence != fmt.Sprintf("%016d", 2) {
		t.Errorf("file holds %d lines after the disk had room again", len(events))
	}
}

// onAFullDisk is the child's part.
func onAFullDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails instead
	h, err := config(path).Open(context.Background(), env())
	if err != nil {
		return err
	}
	d := handlertest.Deliveries()
	ctx := context.Background()
	if err := h.Handle(ctx, d[0]); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := limit
	full.Cur = uint64(info.Size()) + 100 // a part of the next line
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	for range 3 {
		err := h.Handle(ctx, d[1])
		if !errors.Is(err, unix.EFBIG) || handler.IsPermanent(err) {
			return fmt.Errorf("on a full disk: %v", err)
		}
		if now, err := os.Stat(path); err != nil || now.Size() != info.Size() {
			return fmt.Errorf("a part of a line was left: %d bytes after %d, %v", now.Size(), info.Size(), err)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := h.Handle(ctx, d[1]); err != nil {
		return err
	}
	return h.Close()
}

// TestTheDocumentedEvent holds the README against what the handler writes.
func TestTheDocumentedEvent(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```json\n")
	documented, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README shows no event")
	}
	var want, got bytes.Buffer
	if err := json.Compact(&want, []byte(documented)); err != nil {
		t.Fatal(err)
	}
	for _, d := range handlertest.Deliveries() {
		if d.Callback.Kind == callback.KindUsage {
			path := eventsFile(t)
			handle(t, openAt(t, path), d)
			line, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(bytes.TrimSpace(line))
		}
	}
	if got.String() != want.String() {
		t.Errorf("the handler writes\n%s\nthe README says\n%s", got.String(), want.String())
	}
}
