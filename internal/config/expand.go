package config

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// expansion is what the environment said where the file has ${NAME}.
type expansion struct{ path, name, value string }

// reference is ${NAME}, or $${, which stands for the two characters ${ themselves.
var (
	reference    = regexp.MustCompile(`\$?\$\{(?:[A-Za-z_][A-Za-z0-9_]*\})?`)
	variableName = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
)

// expand puts the environment's values in the place of ${NAME} within one value of the file. It comes after YAML has been read and before the
// value has, so that what the environment says is one value whatever is in it, and may be a number or a duration as well as a text.
func (d *decoder) expand(n *yaml.Node, t reflect.Type, path string) (_ *yaml.Node, ok bool) {
	if n.Kind != yaml.ScalarNode || t.Kind() == reflect.Pointer || !strings.Contains(n.Value, "${") {
		return n, true
	}
	ok = true
	text := reference.ReplaceAllStringFunc(n.Value, func(found string) string {
		name := variableName.FindString(found)
		if strings.HasPrefix(found, "$$") {
			return found[1:]
		}
		value, set := os.LookupEnv(name)
		switch {
		case name == "":
			d.bad(n, path, "has a ${ that begins no ${NAME} of an environment variable: write $${ for the two characters themselves")
			ok = false
		case !set && t == secretType && !environmentName.MatchString(name): // which may be the secret itself
			d.unset(n, path, "has a ${NAME} of an environment variable that is not set: set it for callbackd, or write $${ for the two characters themselves")
			ok = false
		case !set:
			d.unset(n, path, "the environment variable %s is not set: set it for callbackd, or write $${ for the two characters themselves", clip(name))
			ok = false
		}
		d.expansions = append(d.expansions, expansion{path, name, value})
		return value
	})
	d.expanded[path] = n.Value
	return scalarOf(n, text, t), ok
}

// unset notes that a variable is not set. An operator's command can do without what it does not look at.
func (d *decoder) unset(n *yaml.Node, path, format string, args ...any) {
	severity := Unread
	if path == "data_dir" || within(path, "inbox") || within(path, "limits") || within(path, "routes") {
		severity = Fatal
	}
	d.spoil(path)
	d.add(placeOf(n), path, severity, format, args...)
}

// scalarOf is n with another text, which is no other kind of value than the key takes.
func scalarOf(n *yaml.Node, text string, t reflect.Type) *yaml.Node {
	s := &yaml.Node{Kind: yaml.ScalarNode, Value: text, Line: n.Line, Column: n.Column}
	switch pointer := reflect.PointerTo(t); {
	case t == durationType || pointer.Implements(textUnmarshalerType) || pointer.Implements(yamlUnmarshalerType):
	case t.Kind() == reflect.Int || t.Kind() == reflect.Bool || t.Kind() == reflect.Float64:
		if s.ShortTag() != "!!null" {
			return s
		}
	}
	s.Tag, s.Style = "!!str", yaml.DoubleQuotedStyle
	return s
}

// conceal is the text of a problem with the names of variables in the place of what they hold: what comes from the environment may be a
// secret, whatever the key.
func (d *decoder) conceal(p Problem) string {
	// A shorter one is in too many words, and no secret.
	const shortest, shortestElsewhere = 4, 8
	text := p.Msg
	for _, e := range slices.SortedFunc(slices.Values(d.expansions), func(a, b expansion) int { return cmp.Compare(len(b.value), len(a.value)) }) {
		least := shortestElsewhere
		if p.Path == e.path || within(p.Path, e.path) || within(e.path, p.Path) {
			least = shortest
		}
		if len(e.value) < least {
			continue
		}
		quoted := strconv.Quote(e.value)
		for _, shown := range []string{e.value, quoted[1 : len(quoted)-1]} {
			text = strings.ReplaceAll(text, shown, "${"+e.name+"}")
			for n := min(len(shown), len(text)); n >= shortest; n-- { // what was clipped
				text = strings.ReplaceAll(text, shown[:n]+"...", "${"+e.name+"}...")
			}
		}
	}
	return text
}

// unexpanded puts what the file says in the place of what the environment said.
func unexpanded(n *yaml.Node, path string, expanded map[string]string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			unexpanded(n.Content[i+1], child(path, n.Content[i].Value), expanded)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			unexpanded(item, indexed(path, i), expanded)
		}
	case yaml.ScalarNode:
		if text, ok := expanded[path]; ok {
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
		}
	}
}

// Effective is the configuration in effect as YAML: all defaults filled in, all secrets masked, and what comes from the environment as the
// file has it.
func (c *Config) Effective() (string, error) {
	var tree yaml.Node
	if err := tree.Encode(c); err != nil {
		return "", fmt.Errorf("print configuration: %w", err)
	}
	unexpanded(&tree, "", c.expanded)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&tree); err != nil {
		return "", fmt.Errorf("print configuration: %w", err)
	}
	return b.String(), nil
}

// credentialsDirectory is where systemd puts what LoadCredential= and its like name.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// absolute is the file that a relative path means. A key that names a file to read, whose name ends in _file or _files, finds it in
// $CREDENTIALS_DIRECTORY if it is there; all else is relative to dir, the folder of the configuration.
func absolute(key, path, dir string) string {
	if filepath.IsAbs(path) || path == "" {
		return path
	}
	key, _, _ = strings.Cut(key[strings.LastIndex(key, ".")+1:], "[")
	named := strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_files")
	if credentials := os.Getenv(credentialsDirectory); credentials != "" && named && filepath.IsLocal(path) {
		file := filepath.Join(credentials, path)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return filepath.Join(dir, path)
}
