package chart_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"callbackd/internal/auth"
	"callbackd/internal/callback"

	"go.yaml.in/yaml/v3"
)

const remake = "go test ./internal/chart -run TestFiles -update"

// TestFiles: templates can read nothing outside the chart, so it has copies of the rules and dashboards, and what they need to know of
// callbackd. None of it may fall behind.
func TestFiles(t *testing.T) {
	want := map[string][]byte{"facts.yaml": facts(t)}
	maps.Copy(want, copies(t, deploy+"/prometheus", "prometheus", ".yaml", isRules))
	maps.Copy(want, copies(t, deploy+"/grafana", "grafana", ".json", func([]byte) bool { return true }))
	root := filepath.Join(chartDir, "files")
	if *update {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := make(map[string][]byte)
	walk(t, root, func(path string, text []byte) {
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.ToSlash(name)] = text
	})
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s/%s is not what it is made from: %s", root, name, remake)
		}
		delete(got, name)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("%s/%s is made from nothing any more: %s", root, name, remake)
	}
}

// facts are what the templates need to know of callbackd.
func facts(t *testing.T) []byte {
	t.Helper()
	var f struct {
		Services map[string]int      `yaml:"services"`
		Sets     map[string][]string `yaml:"sets"`
	}
	f.Services, f.Sets = make(map[string]int), make(map[string][]string)
	for _, info := range callback.Catalogue() {
		f.Services[string(info.Service)] = info.Port
	}
	prefixes, err := auth.ReadEntry("thingspace")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		f.Sets["thingspace"] = append(f.Sets["thingspace"], p.String())
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("# What callbackd knows: its services with their ports, and its sets of addresses.\n# Made by "+remake+"\n"), text...)
}

// copies are the files of a folder by the names that they have in the chart.
func copies(t *testing.T, from, to, extension string, wanted func([]byte) bool) map[string][]byte {
	t.Helper()
	list := make(map[string][]byte)
	walk(t, from, func(path string, text []byte) {
		if filepath.Ext(path) != extension || !wanted(text) {
			return
		}
		name := to + "/" + filepath.Base(path)
		if list[name] != nil {
			t.Fatalf("%s: another file below %s has its name", path, from)
		}
		list[name] = text
	})
	return list
}

// isRules tells files of rules from tests of them and from examples.
func isRules(text []byte) bool {
	var file struct{ Groups yaml.Node }
	return yaml.Unmarshal(text, &file) == nil && file.Groups.Kind == yaml.SequenceNode
}

// walk visits every file, if the folder is there.
func walk(t *testing.T, root string, visit func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) && path == root:
			return nil
		case err != nil:
			return err
		case d.Type().IsRegular():
			visit(path, read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
