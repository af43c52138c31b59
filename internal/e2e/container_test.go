package e2e_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/counterpart"
	"callbackd/internal/thingspace/platform"
)

const container = "../../deploy/container"

// dockerfile are the instructions of the Dockerfile, each on a line of its own.
func dockerfile(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(container + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	return slices.DeleteFunc(strings.Split(joined, "\n"), func(line string) bool { return line == "" || line[0] == '#' })
}

// one is what the only instruction that begins so goes on with.
func one(t *testing.T, begins string) string {
	t.Helper()
	var found []string
	for _, line := range dockerfile(t) {
		if rest, ok := strings.CutPrefix(line, begins); ok {
			found = append(found, rest)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d instructions begin with %q, want 1", len(found), begins)
	}
	return found[0]
}

// imageProgram builds the program as the Dockerfile does.
func imageProgram(t *testing.T, path string) {
	t.Helper()
	script := "CGO_ENABLED=0" + strings.Replace(one(t, "RUN CGO_ENABLED=0"), "/image/usr/local/bin/callbackd", path, 1)
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("the image's program is not static: it needs a loader, or libraries %v: %v", libraries, err)
	}
}

// TestTheImagesRootIsEnough runs the program, which is static, as the image's user in a root that holds what the image holds, read-only but for the volume.
func TestTheImagesRootIsEnough(t *testing.T) {
	const unchecked = "whether the program runs in the image's root"
	unshare := counterpart.Program(t, "unshare", unchecked)
	if os.Getuid() != 0 || exec.Command(unshare, "--mount", "true").Run() != nil {
		counterpart.Forbidden(t, "mounts", unchecked)
	}
	user := one(t, "USER ")
	r := newCrashReceiver(t)
	root := t.TempDir()
	data := filepath.Join(root, "var/lib/callbackd")
	for _, dir := range []string{"usr/local/bin", "etc/ssl/certs", "etc/callbackd", "var/lib/callbackd"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	imageProgram(t, filepath.Join(root, "usr/local/bin/callbackd"))
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(bytes.Replace(text, []byte("data_dir: data"), []byte("data_dir: /var/lib/callbackd"), 1), []byte(r.events), []byte("/var/lib/callbackd/events.ndjson"), 1)
	if err := os.WriteFile(filepath.Join(root, "etc/callbackd/callbackd.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", user, data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var entry, cmd []string
	for begins, into := range map[string]*[]string{"ENTRYPOINT ": &entry, "CMD ": &cmd} {
		if err := json.Unmarshal([]byte(one(t, begins)), into); err != nil {
			t.Fatal(err)
		}
	}
	r.command = func() *exec.Cmd {
		script := fmt.Sprintf(`mount --bind %[1]s %[1]s && mount --bind %[2]s %[2]s && mount -o remount,ro,bind %[1]s && cd / && exec chroot --userspec=%[3]s %[1]s "$@"`,
			root, data, user)
		return exec.Command(unshare, append([]string{"--mount", "sh", "-ec", script, "sh"}, append(entry, cmd...)...)...)
	}
	r.start()
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	answer, err := client.Post(t.Context(), r.url, platform.NewGenerator(1, credentials).Message(callback.DeviceUsage))
	if err != nil || !answer.Acked() {
		t.Errorf("post: %+v, %v", answer, err)
	}
	r.terminate()
	if _, err := os.Stat(filepath.Join(data, "inbox.db")); err != nil {
		t.Errorf("the inbox is not in the volume: %v", err)
	}
}

// TestKoBuildsAsTheDockerfileDoes, with the same flags.
func TestKoBuildsAsTheDockerfileDoes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(container + "/.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run := one(t, "RUN CGO_ENABLED=0")
	for inKo, inDockerfile := range map[string]string{"ldflags: [-s, -w]": `-ldflags="-s -w"`, "main: ./cmd/callbackd": " ./cmd/callbackd"} {
		if !strings.Contains(string(text), inKo) || !strings.Contains(run, inDockerfile) {
			t.Errorf("ko has %q, the Dockerfile %q: one of them is gone", inKo, inDockerfile)
		}
	}
}
