package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"callbackd/internal/config"

	"golang.org/x/sys/unix"
)

// TestALogInThatOnlyOthersMayReadKeepsNothingFromStarting: the user that receives need not be the one that registers.
func TestALogInThatOnlyOthersMayReadKeepsNothingFromStarting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "uws", "uws-s3cret\n")
	if err := errors.Join(os.Chmod(filepath.Join(dir, "uws"), 0), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // who may read everything: let this thread alone open files as nobody
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	}
	text := strings.ReplaceAll(twoAccounts, "uws_password_env: CALLBACKD_TEST_UWS", "uws_password_file: uws")
	text = strings.ReplaceAll(text, "uws_password_file: none", "uws_password_file: uws")
	c, problems := config.Parse("c.yaml", dir, []byte(text), nil)
	if problems.Worst() != config.Warning || !strings.Contains(lines(problems), "cannot read it, and so can neither register nor watch") {
		t.Errorf("problems are\n%s", lines(problems))
	}
	if _, err := c.Accounts[1].LogIn(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("logging in fails with %v", err)
	}
}
