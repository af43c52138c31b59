package cli_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"callbackd/internal/callback"
)

// copySource copies the source of this program.
func copySource(t *testing.T) string {
	t.Helper()
	const root = "../.."
	dir := t.TempDir()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		to := filepath.Join(dir, strings.TrimPrefix(name, root))
		if d.IsDir() {
			return os.Mkdir(to, 0o755)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// in runs a program in a folder.
func in(t *testing.T, dir, program string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=-trimpath") // without the path, what an earlier run compiled is found again
	out, err := c.CombinedOutput()
	return string(out), err
}

// A handler that was begun fails its test, passes it with the body that the README shows, and keeps the rules of the house.
func TestANewHandlerFailsUntilItIsWritten(t *testing.T) {
	t.Parallel()
	dir := copySource(t)
	// The name is another than the README's, so that the test passes as well for somebody who has followed the README.
	out, err := in(t, filepath.Join(dir, "internal"), "callbackd", "handler", "new", "newcomer", "--kind", "Usage")
	if err != nil || !strings.Contains(out, "go test ./internal/handler/newcomer") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := in(t, dir, "go", "test", "./internal/handler/newcomer"); err == nil || !strings.Contains(out, "not written yet") {
		t.Fatalf("the test of a handler without a body: %v\n%s", err, out)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme = bytes.ReplaceAll(readme, []byte("overuse"), []byte("newcomer"))
	shown := regexp.MustCompile("(?s)`(internal/handler/newcomer/[a-z]+\\.go)`:\n\n```go handler\n(.*?)```").FindSubmatch(readme)
	if shown == nil {
		t.Fatal("the README shows no handler")
	}
	if err := os.WriteFile(filepath.Join(dir, string(shown[1])), shown[2], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := in(t, dir, "go", "test", "./internal/handler/newcomer"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := in(t, dir, "go", "test", "-run", "TestGuards", "./internal/presubmit"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := in(t, dir, "gofmt", "-l", "internal/handler"); err != nil || out != "" {
		t.Errorf("gofmt: %v\n%s", err, out)
	}
}

func TestANewHandlerOfEachKindCompiles(t *testing.T) {
	t.Parallel()
	dir := copySource(t)
	begun := 0
	for _, kind := range callback.Kinds() {
		out, err := in(t, dir, "callbackd", "handler", "new", "my"+strings.ToLower(string(kind)), "--kind", string(kind))
		if (err != nil) != (kind == callback.KindUnknown) {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
		if err == nil {
			begun++
		}
	}
	if begun != len(callback.Kinds())-1 {
		t.Errorf("%d handlers were begun", begun)
	}
	if out, err := in(t, dir, "go", "vet", "./internal/handler/my...", "./internal/handler/builtin"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := in(t, dir, "callbackd", "handler", "new", "myusage", "--kind", "Usage"); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("a second handler of one name: %v\n%s", err, out)
	}
}
