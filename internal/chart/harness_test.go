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
	tool.once.Do(func() {
		folder, err := os.MkdirTemp("", "callbackd-chart-")
		if err != nil {
			tool.err = err
			return
		}
		tool.path = filepath.Join(folder, "kubernetes")
		build := exec.Command("go", "build", "-o", tool.path, ".")
		build.Dir = "../tools/kubernetes"
		build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			tool.err = fmt.Errorf("build internal/tools/kubernetes: %w\n%s", err, out)
		}
	})
	if tool.err != nil {
		t.Fatal(tool.err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool.path, "check", dir, "testdata/schemas", file)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return "", errOut.String()
	case err != nil:
		t.Fatal(err)
	}
	return out.String(), ""
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
