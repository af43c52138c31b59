package cli_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAHangupThatComesBeforeServeIsReadyIsHeard: it ends nothing, and the configuration is read again once there is something to replace. The
// configuration is a pipe at first, which shows when it is read.
func TestAHangupThatComesBeforeServeIsReadyIsHeard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "data_dir: " + filepath.Join(dir, "data") + "\nadmin: {listen: 127.0.0.1:0}\nallow_anonymous: true\nservices: {DeviceUsage: {listen: 127.0.0.1:0}}\n"
	serve := callbackd(t, "serve", "--config", file)
	log, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(file, os.O_WRONLY, 0) // returns when serve reads
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	put(t, file+".next", text) // for the second time
	if err := os.Rename(file+".next", file); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.WriteString(text); err != nil {
		t.Errorf("serve has ended: %v", err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
	told, heard := "", false
	for lines := bufio.NewScanner(log); !heard && lines.Scan(); {
		told += lines.Text() + "\n"
		heard = strings.Contains(lines.Text(), `"msg":"the configuration was read again","cause":"SIGHUP"`)
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := serve.Wait(); err != nil || !heard {
		t.Errorf("heard: %v; it ended with %v\n%s", heard, err, told)
	}
}
