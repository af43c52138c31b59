package ndjson_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/ndjson"
)

// victim names the file that a run of this test binary writes to until it is killed.
const victim = "CALLBACKD_NDJSON_VICTIM"

// rotating is a configuration that rotates and compresses every few lines.
func rotating(path string) *ndjson.Config {
	c := config(path)
	c.Fsync, c.Rotate.Size, c.Gzip = ndjson.Never, 2<<10, true // it is the process that ends, and not the system
	return c
}

// TestWhatIsDoneOutlivesTheProcess kills one that writes, rotates and compresses, at any moment, and looks for each line that was done.
func TestWhatIsDoneOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	const kills = 8
	path := eventsFile(t)
	done := make(map[string]bool)
	for range kills {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), victim+"="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		told := bufio.NewScanner(out)
		for left := rand.IntN(200); told.Scan(); left-- {
			if id, ok := strings.CutPrefix(told.Text(), "done "); ok {
				done[id] = true
			} else {
				t.Errorf("the process says %s", told.Text())
			}
			if left == 0 {
				_ = c.Process.Kill() // what it has told meanwhile is read yet
			}
		}
		_ = c.Wait() // it was killed
	}
	openWith(t, rotating(path), env())
	eventually(t, path, "not all compressed", func() bool {
		for _, name := range names(t, path) {
			if name != "events.ndjson" && !strings.HasSuffix(name, ".gz") {
				return false
			}
		}
		return true
	})
	written, all := make(map[string]bool), filepath.Join(t.TempDir(), "all")
	for _, name := range names(t, path) {
		file := filepath.Join(filepath.Dir(path), name)
		if strings.HasSuffix(name, ".gz") {
			write(t, all, unzip(t, file))
			file = all
		}
		for _, e := range read(t, file) {
			written[e.ID] = true
		}
	}
	for id := range done {
		if !written[id] {
			t.Errorf("%s was done, and is in no file", id)
		}
	}
	if len(done) == 0 || len(names(t, path)) < 3 {
		t.Errorf("%d lines were done; the folder has %q", len(done), names(t, path))
	}
}

// writeUntilKilled is the victim's part.
func writeUntilKilled(path string) error {
	h, err := rotating(path).Open(context.Background(), env())
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		d := handlertest.Deliveries()[i%3]
		d.ID = fmt.Sprint(os.Getpid(), ".", i)
		if err := h.Handle(context.Background(), d); err != nil {
			return err
		}
		fmt.Println("done", d.ID)
	}
}
