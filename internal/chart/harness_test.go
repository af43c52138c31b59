package chart_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the files of the chart that are made from others")

const (
	deploy   = "../../deploy"
	chartDir = deploy + "/kubernetes/callbackd"
)

// tool is internal/tools/kubernetes, built once for all tests.
var tool struct {
	once sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if tool.path != "" {
		_ = os.RemoveAll(filepath.Dir(tool.path))
	}
	os.Exit(code)
}

// check renders the chart with values, lints it and validates what came out, and returns that, or what is wrong.
func check(t *testing.T, dir string, values []byte) (manifests, problem string) {
	t.Helper()
	return run(t, "check", dir, "testdata/schemas", write(t, values))
}

// conform validates manifests, and returns what is wrong with them.
func conform(t *testing.T, manifests string) (problem string) {
	t.Helper()
	_, problem = run(t, "conform", "testdata/schemas", write(t, []byte(manifests)))
	return problem
}

// run runs the tool.
func run(t *testing.T, args ...string) (out, problem string) {
	t.Helper()
	tool.once.Do(build)
	if tool.err != nil {
		t.Fatal(tool.err)
	}
	cmd := exec.CommandContext(t.Context(), tool.path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return "", stderr.String()
	case err != nil:
		t.Fatal(err)
	}
	return stdout.String(), ""
}

func build() {
	folder, err := os.MkdirTemp("", "callbackd-chart-")
	if err != nil {
		tool.err = err
		return
	}
	tool.path = filepath.Join(folder, "kubernetes")
	cmd := exec.Command("go", "build", "-o", tool.path, ".")
	cmd.Dir = "../tools/kubernetes"
	if out, err := cmd.CombinedOutput(); err != nil {
		tool.err = fmt.Errorf("build internal/tools/kubernetes: %w\n%s", err, out)
	}
}

func write(t *testing.T, text []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "input.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// object is a manifest, as far as the tests look at it.
type object struct {
	Kind     string
	Metadata struct {
		Name                string
		Labels, Annotations map[string]string
	}
	Data map[string]string
	Spec yaml.Node
}

// objects reads what check printed. The notes come last.
func objects(t *testing.T, manifests string) []object {
	t.Helper()
	manifests, _, _ = strings.Cut(manifests, "---\n# NOTES.txt\n")
	var list []object
	d := yaml.NewDecoder(strings.NewReader(manifests))
	for {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("read manifests: %v", err)
		}
		if o.Kind != "" {
			list = append(list, o)
		}
	}
}

// only is the one object of a kind whose name ends so.
func only(t *testing.T, list []object, kind, suffix string) object {
	t.Helper()
	var found []object
	for _, o := range list {
		if o.Kind == kind && strings.HasSuffix(o.Metadata.Name, suffix) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s named ...%s, want 1", len(found), kind, suffix)
	}
	return found[0]
}

func has(list []object, kind string) bool {
	for _, o := range list {
		if o.Kind == kind {
			return true
		}
	}
	return false
}

func decode[T any](t *testing.T, o object) (spec T) {
	t.Helper()
	if err := o.Spec.Decode(&spec); err != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Metadata.Name, err)
	}
	return spec
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
