package presubmit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const module = "callbackd"

// tree is a checkout, or a fixture that plays one.
type tree struct {
	root  string
	files []string // of the whole tree, slashes between, sorted
	fset  *token.FileSet
	// packages by their folder. Parsing instead of listing shows the files of every platform and tag.
	packages map[string]*pkg
}

// pkg is a folder with Go files.
type pkg struct {
	dir   string
	files []*file
}

type file struct {
	*ast.File
	path string
	test bool
}

// checkout is the tree that this test runs in, as far as git knows it.
func checkout(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	git := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	out, err := git.Output()
	if err != nil {
		t.Logf("git ls-files: %v; looking at every file instead", err)
		return load(t, root, walk(t, root))
	}
	var files []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil { // else it is being removed
			files = append(files, name)
		}
	}
	return load(t, root, files)
}

// fixture is the tree in a txtar archive. Its comment lists the findings that it is to give.
func fixture(t *testing.T, path string) (tr *tree, want []string) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(archive.Comment)) {
		if line = strings.TrimSpace(line); line != "" {
			want = append(want, line)
		}
	}
	root := t.TempDir()
	if err := txtar.Write(archive, root); err != nil {
		t.Fatal(err)
	}
	return load(t, root, walk(t, root)), want
}

func walk(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			files = append(files, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func load(t *testing.T, root string, files []string) *tree {
	t.Helper()
	slices.Sort(files)
	tr := &tree{root: root, files: files, fset: token.NewFileSet(), packages: make(map[string]*pkg)}
	for _, name := range files {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "testdata/") || strings.HasPrefix(name, "internal/tools/") {
			continue
		}
		parsed, err := parser.ParseFile(tr.fset, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		if tr.packages[dir] == nil {
			tr.packages[dir] = &pkg{dir: dir}
		}
		p := tr.packages[dir]
		p.files = append(p.files, &file{parsed, name, strings.HasSuffix(name, "_test.go")})
	}
	return tr
}

// read is the text of a file; empty if it is not there.
func (tr *tree) read(name string) string {
	text, err := os.ReadFile(filepath.Join(tr.root, filepath.FromSlash(name)))
	if err != nil {
		return ""
	}
	return string(text)
}

func (tr *tree) has(name string) bool { return slices.Contains(tr.files, name) }

// dirs lists the folders of the packages, sorted.
func (tr *tree) dirs() []string {
	var dirs []string
	for dir := range tr.packages {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}

// each visits the Go files, in order.
func (tr *tree) each(visit func(p *pkg, f *file)) {
	for _, dir := range tr.dirs() {
		for _, f := range tr.packages[dir].files {
			visit(tr.packages[dir], f)
		}
	}
}

// imports lists what a file imports; packages of the module by their folder, with a slash before it.
func (f *file) imports() []string {
	var list []string
	for _, spec := range f.Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		if rest, ok := strings.CutPrefix(name, module+"/"); ok {
			name = "/" + rest
		}
		list = append(list, name)
	}
	return list
}

// local is the name under which a file knows an import; empty if it does not import it.
func (f *file) local(imported string) string {
	for _, spec := range f.Imports {
		if strings.Trim(spec.Path.Value, `"`) == imported {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return path.Base(imported)
		}
	}
	return ""
}

// generated reports whether a tool wrote the file.
func (f *file) generated() bool { return ast.IsGenerated(f.File) }

// under reports whether a folder is one of those, or within one.
func under(dir string, folders ...string) bool {
	for _, f := range folders {
		if dir == f || strings.HasPrefix(dir, f+"/") {
			return true
		}
	}
	return false
}
