package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/ast"
	goformat "go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/builtin"

	"github.com/spf13/cobra"
)

func (e *env) handler() *cobra.Command {
	c := &cobra.Command{
		Use:   "handler",
		Short: "See how handlers stand, pause and resume them, and begin one of your own",
		Long: "See how the configured handlers stand, and pause and resume them.\n\n" +
			"Handler types are Go packages in the source of callbackd, a folder each: `handler new` begins one. They get callbacks as events, of\n" +
			"which `handler schema` prints the schema.",
	}
	c.AddCommand(e.handlerList(), e.handlerPause(), e.handlerResume(), e.handlerNew(), e.handlerSchema())
	return c
}

func (e *env) handlerNew() *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Write the files of a new handler type, and a test that fails until it is written",
		Long: "Write the files of a new handler type into internal/handler/NAME, and its line into internal/handler/builtin. Run it in a checkout\n" +
			"of the source of callbackd.\n\n" +
			"The handler gets the callbacks that carry one kind of payload. Its test fails until its body is written.",
		Example: "  callbackd handler new overuse --kind Usage",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&kind, "kind", "", "the kind of payload that it handles")
	complete(c, "kind", payloadNames())
	c.RunE = func(_ *cobra.Command, args []string) error {
		n := newHandler{Name: args[0], Kind: kind}
		if err := n.validate(); err != nil {
			return &usageError{err}
		}
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		root, err := sourceRoot(dir)
		if err != nil {
			return err
		}
		if err := n.write(root); err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.out, "wrote %s: %s\nadded %s.Type() to %s\nnext: `go test ./%s` fails; write handle in %s.go until it passes\n",
			n.folder(), strings.Join(n.files(), ", "), n.Name, builtinFile, n.folder(), n.Name)
		return err
	}
	return c
}

// payloadNames are the kinds that have a payload.
func payloadNames() []string {
	return slices.DeleteFunc(kindNames(), func(name string) bool { return payloadType(name) == "" })
}

// payloadType is the Go type of a kind's payload; empty for Unknown, which has none.
func payloadType(kind string) string {
	f, ok := reflect.TypeFor[callback.Callback]().FieldByName(kind)
	if !ok || f.Type.Kind() != reflect.Pointer {
		return ""
	}
	return f.Type.Elem().Name()
}

const (
	handlerHome = "internal/handler"
	builtinFile = handlerHome + "/builtin/builtin.go"
)

// newHandler is a handler type to be begun.
type newHandler struct{ Name, Kind string }

// Payload is the Go type that the handler gets.
func (n newHandler) Payload() string { return payloadType(n.Kind) }

func (n newHandler) folder() string { return path.Join(handlerHome, n.Name) }

func (n newHandler) files() []string {
	return []string{"README.md", "config.go", n.Name + ".go", n.Name + "_test.go"}
}

// validate refuses names that Go, the configuration or a sibling has another use for.
func (n newHandler) validate() error {
	taken := []string{"config", "main", "init", "handler", "handlertest", "builtin", "internal", "vendor", "testdata"}
	switch {
	case !regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`).MatchString(n.Name):
		return fmt.Errorf("%q is no name of a handler type: lower case letters and digits, at most 32, a letter first", n.Name)
	case slices.ContainsFunc(builtin.Types(), func(t handler.Type) bool { return t.Name == n.Name }):
		return fmt.Errorf("there is a handler type %q already: choose another name", n.Name)
	case token.IsKeyword(n.Name), slices.Contains(taken, n.Name):
		return fmt.Errorf("%q means something else already: choose another name", n.Name)
	case n.Kind == "":
		return fmt.Errorf("name the kind of payload with --kind: one of %s", strings.Join(payloadNames(), ", "))
	case n.Payload() == "":
		return fmt.Errorf("--kind %q is none of %s", n.Kind, strings.Join(payloadNames(), ", "))
	}
	return nil
}

// sourceRoot finds the checkout of callbackd that a folder is in.
func sourceRoot(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && regexp.MustCompile(`(?m)^module callbackd$`).Match(text) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is in no checkout of callbackd, and a handler type is a package of its source: run this in one", dir)
		}
	}
}

// write writes all of it or nothing.
func (n newHandler) write(root string) error {
	list := filepath.Join(root, filepath.FromSlash(builtinFile))
	before, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	after, err := n.listed(before)
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", n.Name, builtinFile, err)
	}
	texts, err := n.texts()
	if err != nil {
		return err
	}
	folder := filepath.Join(root, filepath.FromSlash(n.folder()))
	if err := os.Mkdir(folder, 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: choose another name", n.folder())
	} else if err != nil {
		return err
	}
	for i, name := range n.files() {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), texts[i], 0o644))
	}
	if err == nil {
		err = os.WriteFile(list, after, 0o644)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	return nil
}

//go:embed newhandler/*.tmpl
var newHandlerFiles embed.FS

// texts are those of the files, in their order.
func (n newHandler) texts() ([][]byte, error) {
	var texts [][]byte
	for _, name := range []string{"README.md", "config.go", "handler.go", "handler_test.go"} {
		t, err := template.ParseFS(newHandlerFiles, "newhandler/"+name+".tmpl")
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, n); err != nil {
			return nil, err
		}
		texts = append(texts, b.Bytes())
	}
	return texts, nil
}

// listed adds the type to the source of the list of built-ins, which is one composite literal.
func (n newHandler) listed(source []byte) ([]byte, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, builtinFile, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var list *ast.CompositeLit
	ast.Inspect(file, func(node ast.Node) bool {
		if lit, ok := node.(*ast.CompositeLit); ok && list == nil {
			list = lit
		}
		return list == nil
	})
	if list == nil || len(file.Imports) == 0 {
		return nil, errors.New("it has no list of handler types")
	}
	end, imports := fset.Position(list.Rbrace).Offset, fset.Position(file.Imports[0].Pos()).Offset
	text := string(source[:imports]) + fmt.Sprintf("%q\n\t", module+"/"+n.folder()) + string(source[imports:end]) + "\t" + n.Name + ".Type(),\n\t" + string(source[end:])
	return goformat.Source([]byte(text))
}

// module is the path of this program's module.
const module = "callbackd"
