package callback_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	marked  = regexp.MustCompile(`(?i)\b(published|inferred)\b`)
	section = regexp.MustCompile(`schemas/README\.md, sections? [0-9]`)
)

// unmarked lists what the docs of a source do not say: where a type of the platform's stands in schemas/README.md, and of each of its fields
// whether it is published or inferred.
func unmarked(t *testing.T, name, source string) (list []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		spec := g.Specs[0].(*ast.TypeSpec)
		fields, ok := spec.Type.(*ast.StructType)
		if !ok || spec.Name.Name == "Element" {
			continue
		}
		if !section.MatchString(strings.ReplaceAll(g.Doc.Text(), "\n", " ")) {
			list = append(list, spec.Name.Name)
		}
		for _, f := range fields.Fields.List {
			// Kind, Text and Extra are this program's: what a message is about, and what had no other place.
			if n := f.Names[0].Name; n == "Extra" || n == "ExtraOmitted" || n == "Text" && strings.Contains(f.Tag.Value, "omitempty") || spec.Name.Name == "Callback" && n == "Kind" {
				continue
			}
			if !marked.MatchString(f.Doc.Text() + f.Comment.Text()) {
				list = append(list, spec.Name.Name+"."+f.Names[0].Name)
			}
		}
	}
	return list
}

func TestEveryFieldIsMarkedAsPublishedOrInferred(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"callback.go", "payload.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range unmarked(t, name, string(source)) {
			t.Errorf("%s: %s does not say where it is published, or that it is inferred", name, what)
		}
	}
	const bad = "package p\n// A is in schemas/README.md,\n// section 4.\ntype A struct {\n B string `json:\"b\"` // published\n C string `json:\"c\"`\n}\ntype D struct{}\n"
	if got := strings.Join(unmarked(t, "bad.go", bad), " "); got != "A.C D" {
		t.Errorf("of two things unmarked, %q is found", got)
	}
}
