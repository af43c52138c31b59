package presubmit_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// configuring are the folders that may read the configuration from where it is: files, environment, flags.
var configuring = []string{"internal/config", "internal/app", "internal/cli", "cmd"}

// outside: the configuration is read in one place.
func outside(tr *tree, report func(string, ...any)) {
	forbidden := []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args", "ReadFile"}
	tr.each(func(p *pkg, f *file) {
		if f.test || under(p.dir, configuring...) || under(p.dir, forTests...) || under(p.dir, generators...) {
			return
		}
		if f.local("flag") != "" {
			report("%s imports flag: only %s read flags", f.path, strings.Join(configuring, ", "))
		}
		tr.selectors(f, "os", forbidden, func(at, name string) {
			report("%s: os.%s: only %s read files, the environment and arguments for what is configured", at, name, strings.Join(configuring, ", "))
		})
	})
}

// selectors finds the uses of a package's names.
func (tr *tree) selectors(f *file, imported string, names []string, found func(at, name string)) {
	local := f.local(imported)
	if local == "" {
		return
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local && x.Obj == nil && slices.Contains(names, s.Sel.Name) {
				found(tr.at(f, s), s.Sel.Name)
			}
		}
		return true
	})
}

func (tr *tree) at(f *file, n ast.Node) string {
	return f.path + ":" + itoa(tr.fset.Position(n.Pos()).Line)
}

// packageDoc: every package says what it is.
func packageDoc(tr *tree, report func(string, ...any)) {
	for _, dir := range tr.dirs() {
		name, documented, product := "", false, false
		for _, f := range tr.packages[dir].files {
			if f.test {
				continue
			}
			product, name = true, f.Name.Name
			start := "Package " + name + " "
			if name == "main" {
				start = "Command "
			}
			documented = documented || f.Doc != nil && strings.HasPrefix(f.Doc.Text(), start)
		}
		if product && !documented {
			report("%s: package %s has no doc that begins with its name", dir, name)
		}
	}
}

// noInit: nothing happens by being imported.
func noInit(tr *tree, report func(string, ...any)) {
	tr.each(func(_ *pkg, f *file) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				report("%s: init", tr.at(f, fn))
			}
		}
		for _, spec := range f.Imports {
			if spec.Name != nil && spec.Name.Name == "_" && spec.Path.Value != `"embed"` {
				report("%s: imports %s for its effects", tr.at(f, spec), spec.Path.Value)
			}
		}
	})
}

// kept are the variables that change, or could, and why that is right.
var kept = map[string]string{
	"internal/inbox/sqlite/faultvfs.live": "SQLite calls back with a number, and this is what the numbers stand for",
}

// state: no package keeps any. A variable at package level is set where it is declared and never again.
func state(tr *tree, report func(string, ...any)) {
	excused := make(map[string]bool)
	for _, dir := range tr.dirs() {
		p := tr.packages[dir]
		vars := packageVars(p)
		say := func(f *file, n ast.Node, name, what string) {
			if key := dir + "." + name; kept[key] != "" {
				excused[key] = true
				return
			}
			report("%s: %s %s: no package keeps state", tr.at(f, n), name, what)
		}
		for _, f := range p.files {
			if f.test || f.generated() {
				continue
			}
			declared(f, func(spec *ast.ValueSpec, embedded bool) {
				for i, name := range spec.Names {
					if what := changeable(spec, i); what != "" && !embedded && name.Name != "_" {
						say(f, name, name.Name, what)
					}
				}
			})
			ast.Inspect(f.File, func(n ast.Node) bool {
				for _, target := range targets(n) {
					if name := root(target); name != nil && vars[name.Name] && (name.Obj == nil || isPackageVar(f, name)) {
						say(f, n, name.Name, "is changed here")
					}
				}
				return true
			})
		}
	}
	for key, why := range kept {
		if dir := key[:strings.LastIndexByte(key, '.')]; tr.packages[dir] != nil && !excused[key] {
			report("internal/presubmit: %s is excused (%s) and needs no excuse any more", key, why)
		}
	}
}

// declared visits the variables at package level.
func declared(f *file, visit func(spec *ast.ValueSpec, embedded bool)) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			spec := s.(*ast.ValueSpec)
			embedded := false
			for _, doc := range []*ast.CommentGroup{g.Doc, spec.Doc} {
				if doc != nil {
					embedded = embedded || slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
				}
			}
			visit(spec, embedded)
		}
	}
}

func packageVars(p *pkg) map[string]bool {
	vars := make(map[string]bool)
	for _, f := range p.files {
		if !f.test {
			declared(f, func(spec *ast.ValueSpec, _ bool) {
				for _, name := range spec.Names {
					vars[name.Name] = true
				}
			})
		}
	}
	return vars
}

func isPackageVar(f *file, name *ast.Ident) bool {
	found := false
	declared(f, func(spec *ast.ValueSpec, _ bool) { found = found || name.Obj != nil && name.Obj.Decl == spec })
	return found
}

// changeable says why a variable is made to be changed; empty if it is not.
func changeable(spec *ast.ValueSpec, i int) string {
	if spec.Type != nil {
		if s, ok := spec.Type.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "sync" && s.Sel.Name != "Pool" || x.Name == "atomic") {
				return "is a " + x.Name + "." + s.Sel.Name
			}
		}
	}
	if len(spec.Values) == 0 {
		return "has no value, so it is there to be given one"
	}
	if i < len(spec.Values) {
		if call, ok := spec.Values[i].(*ast.CallExpr); ok {
			if fn, ok := call.Fun.(*ast.Ident); ok && (fn.Name == "make" || fn.Name == "new") {
				return "is made to be filled"
			}
		}
	}
	return ""
}

// targets are the expressions that a node changes, or hands out to be changed.
func targets(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.UnaryExpr:
		if _, isIdent := n.X.(*ast.Ident); n.Op == token.AND && isIdent {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && (fn.Name == "delete" || fn.Name == "clear") && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// root is the variable at the beginning of a.b[c].
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// exits: the program ends, and hears signals, in main alone.
func exits(tr *tree, report func(string, ...any)) {
	tr.each(func(p *pkg, f *file) {
		if f.test || under(p.dir, "cmd") || under(p.dir, generators...) {
			return
		}
		for _, rule := range []struct {
			imported string
			names    []string
		}{
			{"os", []string{"Exit"}},
			{"os/signal", []string{"Notify", "NotifyContext"}},
			{"log", []string{"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"}},
			{"runtime", []string{"Goexit"}},
			{"syscall", []string{"Exit"}},
		} {
			tr.selectors(f, rule.imported, rule.names, func(at, name string) {
				report("%s: %s.%s: return an error, main does the rest", at, rule.imported, name)
			})
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && f.local("go.uber.org/zap") != "" && s.Sel.Name == "Fatal" && isLogger(s.X) {
				report("%s: a log's Fatal: return an error, main does the rest", tr.at(f, s))
			}
			return true
		})
	})
}

func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return strings.HasSuffix(strings.ToLower(x.Name), "log") || strings.HasSuffix(strings.ToLower(x.Name), "logger")
	case *ast.SelectorExpr:
		return isLogger(x.Sel)
	}
	return false
}

// sleepingTests: a test waits for a signal, and runs.
func sleepingTests(tr *tree, report func(string, ...any)) {
	tr.each(func(p *pkg, f *file) {
		if !f.test && !under(p.dir, forTests...) {
			return
		}
		tr.selectors(f, "time", []string{"Sleep"}, func(at, _ string) {
			report("%s: time.Sleep in a test: wait for a signal, or use testing/synctest", at)
		})
		tr.selectors(f, "testing", []string{"Short"}, func(at, _ string) { report("%s: testing.Short: every test runs", at) })
		if under(p.dir, "internal/counterpart") {
			return
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) && f.isTesting(s.X) {
				report("%s: %s: only package counterpart skips", tr.at(f, s), s.Sel.Name)
			}
			return true
		})
	})
}

// isTesting reports whether an expression is a parameter or a field of a type of package testing, as far as syntax shows.
func (f *file) isTesting(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	if !ok {
		s, isSelector := x.(*ast.SelectorExpr)
		return isSelector && slices.Contains([]string{"t", "b", "f", "tb", "T", "TB"}, s.Sel.Name)
	}
	if id.Obj == nil {
		return false
	}
	field, ok := id.Obj.Decl.(*ast.Field)
	if !ok {
		return false
	}
	typ := field.Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	s, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == f.local("testing")
}

// functionLength: a function is at most 100 lines, unless its doc says "Long because".
func functionLength(tr *tree, report func(string, ...any)) {
	const longest = 100
	tr.each(func(_ *pkg, f *file) {
		if f.generated() {
			return
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || fn.Doc != nil && strings.Contains(strings.ToLower(fn.Doc.Text()), "long because") {
				continue
			}
			if lines := tr.fset.Position(fn.Body.Rbrace).Line - tr.fset.Position(fn.Pos()).Line + 1; lines > longest && !table(tr, fn, longest) {
				report("%s: %s has %d lines: divide it, or let its doc say \"Long because ...\"", tr.at(f, fn), fn.Name.Name, lines)
			}
		}
	})
}

// table reports whether a function is long for the literal of a table in it, which no division makes clearer.
func table(tr *tree, fn *ast.FuncDecl, longest int) bool {
	within := 0
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok {
			within += tr.fset.Position(lit.Rbrace).Line - tr.fset.Position(lit.Lbrace).Line
			return false
		}
		return true
	})
	return tr.fset.Position(fn.Body.Rbrace).Line-tr.fset.Position(fn.Pos()).Line+1-within <= longest
}

// metricOptions: every metric is callbackd's by its name, and says what it is.
func metricOptions(tr *tree, report func(string, ...any)) {
	tr.each(func(p *pkg, f *file) {
		local := f.local("github.com/prometheus/client_golang/prometheus")
		if local == "" || f.test || under(p.dir, forTests...) {
			return
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			s, ok := lit.Type.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Opts", "CounterOpts", "GaugeOpts", "HistogramOpts", "SummaryOpts"}, s.Sel.Name) || root(s) == nil || root(s).Name != local {
				return true
			}
			fields := make(map[string]ast.Expr)
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					fields[kv.Key.(*ast.Ident).Name] = kv.Value
				}
			}
			namespace, inFull := fields["Namespace"].(*ast.BasicLit)
			name, _ := fields["Name"].(*ast.BasicLit)
			if (!inFull || namespace.Value != `"`+module+`"`) && (name == nil || !strings.HasPrefix(name.Value, `"`+module+`_`)) {
				report("%s: a metric whose name does not begin with %s_", tr.at(f, lit), module)
			}
			if v, ok := fields["Help"].(*ast.BasicLit); fields["Help"] == nil || ok && v.Value == `""` {
				report("%s: a metric without Help", tr.at(f, lit))
			}
			return true
		})
	})
}
