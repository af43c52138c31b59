package ndjson_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/ndjson"

	"github.com/prometheus/client_golang/prometheus"
)

// names lists what stands in the folder of a file, sorted.
func names(t *testing.T, path string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// rotated is the path of a file that was rotated so long ago.
func rotated(path string, ago time.Duration) string {
	return strings.TrimSuffix(path, ".ndjson") + time.Now().Add(-ago).UTC().Format("-20060102T150405.000Z") + ".ndjson"
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that goes on beside the writing.
func eventually(t *testing.T, path, what string, is func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: the folder has %q", what, names(t, path))
		}
	}
}

// counts are the metrics of the handler that are not zero.
func counts(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue(); v > 0 {
				list[name] = v
			}
		}
	}
	return list
}

func TestAFileIsRotatedBeforeItIsTooLarge(t *testing.T) {
	t.Parallel()
	for _, fsync := range []ndjson.Fsync{ndjson.Always, ndjson.Interval, ndjson.Never} {
		t.Run(string(fsync), func(t *testing.T) {
			t.Parallel()
			const limit, events = 4 << 10, 200
			path := eventsFile(t)
			c, e, reg := config(path), env(), prometheus.NewRegistry()
			c.Fsync, c.FsyncInterval, c.Rotate.Size, e.Registerer = fsync, time.Millisecond, limit, reg
			h := openWith(t, c, e)
			for i := range events {
				d := handlertest.Deliveries()[i%3]
				d.Seq = int64(i)
				handle(t, h, d)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			var got []string
			list := names(t, path) // those rotated sort by time, and before the one that is written
			for _, name := range list {
				if name != "events.ndjson" && !regexp.MustCompile(`^events-\d{8}T\d{6}\.\d{3}Z\.ndjson$`).MatchString(name) {
					t.Errorf("a file is called %s", name)
				}
				file := filepath.Join(filepath.Dir(path), name)
				if info, err := os.Stat(file); err != nil || info.Size() > limit || info.Mode().Perm() != 0o600 {
					t.Errorf("%s has %d bytes and mode %o, %v", name, info.Size(), info.Mode().Perm(), err)
				}
				for _, e := range read(t, file) {
					got = append(got, e.Sequence)
				}
			}
			if len(got) != events || !slices.IsSorted(got) || len(slices.Compact(got)) != events {
				t.Errorf("the files have %d events, in order: %v", len(got), slices.IsSorted(got))
			}
			if len(list) < events/8 {
				t.Errorf("%d files", len(list))
			}
		})
	}
}

func TestRotationsAreCounted(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	c, e, reg := config(path), env(), prometheus.NewRegistry()
	c.Rotate.Size, e.Registerer = 1, reg
	handle(t, openWith(t, c, e), handlertest.Deliveries()[:3]...)
	if got := counts(t, reg); len(got) != 1 || got["callbackd_ndjson_rotations_total"] != 2 {
		t.Errorf("counted are %v", got)
	}
	if n := len(read(t, path)); n != 1 {
		t.Errorf("%d lines in the file, want the last: each is larger than the limit", n)
	}
}

func TestAFileHasTheLinesOfOneDay(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Now().UTC()
	for _, test := range []struct {
		rule string
		last time.Time // when the file was written to, by a callbackd that ran before
		text string
		want int // lines in the new file
	}{
		{"a line of yesterday", now.Truncate(day).Add(-time.Second), "{}\n", 2},
		{"a line of yesterday, and one that a crash cut short", now.Truncate(day).Add(-time.Second), "{}\n{\"spec", 2},
		{"a line of today", now, "{}\n", 3},
		{"an empty file of long ago", now.Add(-30 * day), "", 2},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			path := eventsFile(t)
			write(t, path, test.text)
			if err := os.Chtimes(path, test.last, test.last); err != nil {
				t.Fatal(err)
			}
			c := config(path)
			c.Rotate.Age = day
			handle(t, openWith(t, c, env()), handlertest.Deliveries()[:2]...)
			if n := len(read(t, path)); n != test.want {
				t.Errorf("%d lines in %q, want %d", n, names(t, path), test.want)
			}
		})
	}
}

func TestAFileThatNothingIsWrittenToIsRotatedInTime(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	c := config(path)
	c.Rotate.Age = 50 * time.Millisecond
	handle(t, openWith(t, c, env()), handlertest.Deliveries()[0])
	eventually(t, path, "no rotation", func() bool { return len(names(t, path)) == 2 })
	eventually(t, path, "no new file", func() bool { info, err := os.Stat(path); return err == nil && info.Size() == 0 })
	if list := names(t, path); len(read(t, filepath.Join(filepath.Dir(path), list[0]))) != 1 {
		t.Errorf("the files are %q", list)
	}
}

func unzip(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// compressed reports whether the folder has so many compressed files, and nothing else but the file that is written.
func compressed(t *testing.T, path string, count int) func() bool {
	return func() bool {
		list := names(t, path)
		plain := slices.DeleteFunc(slices.Clone(list), func(name string) bool { return strings.HasSuffix(name, ".gz") })
		return len(list) == count+1 && slices.Equal(plain, []string{"events.ndjson"})
	}
}

func TestRotatedFilesAreCompressed(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	write(t, path, "")
	if err := os.Chmod(path, 0o662); err != nil {
		t.Fatal(err)
	}
	c := config(path)
	c.Rotate.Size, c.Gzip = 1, true
	h := openWith(t, c, env())
	handle(t, h, handlertest.Deliveries()[:4]...)
	eventually(t, path, "not compressed", compressed(t, path, 3))
	text := ""
	for i, name := range names(t, path)[:3] {
		file := filepath.Join(filepath.Dir(path), name)
		text += unzip(t, file)
		if info, err := os.Stat(file); i == 0 && (err != nil || info.Mode().Perm() != 0o662) { // later files are new
			t.Errorf("%s has mode %o, %v", name, info.Mode().Perm(), err)
		}
	}
	write(t, path+".all", text)
	for i, e := range read(t, path+".all") {
		if want := handlertest.Deliveries()[i].Event().ID; e.ID != want {
			t.Errorf("line %d is of %s, want %s", i, e.ID, want)
		}
	}
}

// TestWhatACrashLeavesOfACompressionIsDoneAgain, at each place where a crash can come.
func TestWhatACrashLeavesOfACompressionIsDoneAgain(t *testing.T) {
	t.Parallel()
	var zipped strings.Builder
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte("whole\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule  string
		files map[string]string // by what follows the name
		want  int
	}{
		{"before it began", map[string]string{"": "whole\n"}, 1},
		{"half way", map[string]string{"": "whole\n", ".gz.part": zipped.String()[:9]}, 1},
		{"before the plain file was removed", map[string]string{"": "whole\n", ".gz": zipped.String()}, 1},
		{"half way, and somebody has taken the plain file", map[string]string{".gz.part": zipped.String()[:9]}, 0},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			path := eventsFile(t)
			before := rotated(path, time.Hour)
			for suffix, text := range test.files {
				write(t, before+suffix, text)
			}
			c := config(path)
			c.Rotate.Size, c.Gzip = 1<<20, true
			openWith(t, c, env())
			eventually(t, path, "not compressed", compressed(t, path, test.want))
			if test.want == 1 && unzip(t, before+".gz") != "whole\n" {
				t.Errorf("%s.gz holds %q", before, unzip(t, before+".gz"))
			}
		})
	}
}

func TestOldFilesAreRemoved(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule string
		keep ndjson.Keep
		want []int // of the files that were rotated 0, 1, 2 and 3 days and an hour ago
	}{
		{"none without a bound", ndjson.Keep{}, []int{0, 1, 2, 3}},
		{"those beyond a number", ndjson.Keep{Files: 3}, []int{0, 1, 2}},
		{"those beyond an age", ndjson.Keep{Age: 48 * time.Hour}, []int{0, 1}},
		{"those beyond a size of all", ndjson.Keep{Size: 25}, []int{0, 1}},
		{"those that any bound rules out", ndjson.Keep{Files: 3, Age: 48 * time.Hour, Size: 10}, []int{0}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			path := eventsFile(t)
			var rotations []string
			for day := range 4 {
				name := rotated(path, time.Duration(day)*24*time.Hour+time.Hour)
				if day%2 == 1 {
					name += ".gz"
				}
				write(t, name, "0123456789")
				rotations = append(rotations, name)
			}
			dir := filepath.Dir(path)
			others := []string{"events-20200101T000000.000Z.ndjson.bak", "events-old.ndjson", "other-20200101T000000.000Z.ndjson", "events.ndjson.1",
				"events-20209999T000000.000Z.ndjson", "events-20200101T000000.000Z.log"}
			for _, name := range others {
				write(t, filepath.Join(dir, name), "0123456789")
			}
			if err := os.Mkdir(filepath.Join(dir, "events-20200101T000000.000Z.ndjson"), 0o700); err != nil {
				t.Fatal(err)
			}
			c := config(path)
			c.Rotate.Size, c.Keep = 1<<20, test.keep
			h := openWith(t, c, env())
			eventually(t, path, "too many", func() bool { return len(names(t, path)) <= len(test.want)+len(others)+2 })
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			want := append([]string{"events.ndjson", "events-20200101T000000.000Z.ndjson"}, others...)
			for _, i := range test.want {
				want = append(want, filepath.Base(rotations[i]))
			}
			slices.Sort(want)
			if got := names(t, path); !slices.Equal(got, want) {
				t.Errorf("the folder has\n  %q\nwant\n  %q", got, want)
			}
		})
	}
}

// TestARotationThatFailsCostsNoLine: here the name would be too long for the file system.
func TestARotationThatFailsCostsNoLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 240)+".ndjson")
	c, e, reg := config(path), env(), prometheus.NewRegistry()
	c.Rotate.Size, e.Registerer = 1, reg
	h := openWith(t, c, e)
	handle(t, h, handlertest.Deliveries()[:3]...)
	if n := len(read(t, path)); n != 3 {
		t.Errorf("%d lines", n)
	}
	if got := counts(t, reg); got["callbackd_ndjson_failures_total rotate"] != 2 || got["callbackd_ndjson_rotations_total"] != 0 {
		t.Errorf("counted are %v", got)
	}
	if err := h.(handler.Readier).Ready(); err != nil {
		t.Errorf("it is not ready: %v", err)
	}
}

func TestItSaysThatLinesCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := eventsFile(t)
	e, reg := env(), prometheus.NewRegistry()
	e.Registerer = reg
	h := openWith(t, config(path), e)
	ready := h.(handler.Readier).Ready
	d := handlertest.Deliveries()[0]
	if err := errors.Join(ready(), os.RemoveAll(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	err := h.Handle(t.Context(), d)
	if err == nil || fmt.Sprint(ready()) != err.Error() || !strings.Contains(err.Error(), "there is no folder") {
		t.Errorf("the error is %v, readiness %v", err, ready())
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Handle(t.Context(), d), ready()); err != nil {
		t.Errorf("with the folder back: %v", err)
	}
	if got := counts(t, reg); len(got) != 1 || got["callbackd_ndjson_failures_total write"] != 1 {
		t.Errorf("counted are %v", got)
	}
}

func TestTheMetricsAreThereFromTheStartAndGoAtTheEnd(t *testing.T) {
	t.Parallel()
	e, reg := env(), prometheus.NewRegistry()
	e.Registerer = reg
	c := config(eventsFile(t))
	h := openWith(t, c, e)
	families, err := reg.Gather()
	if err != nil || len(families) != 2 || len(families[0].GetMetric()) != 5 || len(families[1].GetMetric()) != 1 {
		t.Errorf("the metrics are %v, %v", families, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	openWith(t, c, e) // which would fail if they were still there
}

// TestAFileThatCannotBeCompressedStays: here the name of what is being written would be too long for the file system.
func TestAFileThatCannotBeCompressedStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 222)+".ndjson")
	c, e, reg := config(path), env(), prometheus.NewRegistry()
	c.Rotate.Size, c.Gzip, c.Keep.Files, e.Registerer = 1, true, 1, reg
	h := openWith(t, c, e)
	handle(t, h, handlertest.Deliveries()[:3]...)
	eventually(t, path, "no failure", func() bool { return counts(t, reg)["callbackd_ndjson_failures_total compress"] > 0 })
	eventually(t, path, "nothing removed", func() bool { return len(names(t, path)) == 2 })
	if list := names(t, path); len(read(t, filepath.Join(filepath.Dir(path), list[0]))) != 1 || len(read(t, path)) != 1 {
		t.Errorf("the folder has %q", list)
	}
	if err := errors.Join(h.Handle(t.Context(), handlertest.Deliveries()[3]), h.(handler.Readier).Ready()); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
}
