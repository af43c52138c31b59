package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/handler"

	"go.yaml.in/yaml/v3"
)

// decoder reads YAML into structs and notes every problem with its place. The library's own strict mode stops at the first
// problem of a struct and suggests nothing.
type decoder struct {
	file     string
	types    []handler.Type
	problems Problems
	places   map[string]*yaml.Node // of each path that was read
}

func (d *decoder) document(text []byte, c *Config) {
	d.places = make(map[string]*yaml.Node)
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		d.syntax(err)
		return
	}
	if len(root.Content) == 0 {
		d.add(nil, "", Fatal, "the file is empty")
		return
	}
	d.value(root.Content[0], reflect.ValueOf(c).Elem(), "")
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func (d *decoder) syntax(err error) {
	p := Problem{File: d.file, Msg: err.Error(), Severity: Fatal}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		p.Msg = m[2]
		p.Line, _ = strconv.Atoi(m[1]) // 0 where the library names no line
		p.Column = 1
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) add(n *yaml.Node, path string, s Severity, format string, args ...any) {
	p := Problem{File: d.file, Path: path, Msg: fmt.Sprintf(format, args...), Severity: s}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	d.problems = append(d.problems, p)
}

// at notes a problem at the place of a path, or of what it stands in.
func (d *decoder) at(path string, s Severity, format string, args ...any) {
	place := path
	for place != "" && d.places[place] == nil {
		place = place[:max(0, strings.LastIndexAny(place, ".["))]
	}
	d.add(d.places[place], path, s, format, args...)
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	yamlUnmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	handlerType         = reflect.TypeFor[Handler]()
)

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.places[path] = n
	if n.Tag == "!!null" {
		return // as if it were not there
	}
	t := v.Type()
	switch {
	case t == handlerType:
		d.handler(n, v.Addr().Interface().(*Handler), path)
	case reflect.PointerTo(t).Implements(yamlUnmarshalerType), reflect.PointerTo(t).Implements(textUnmarshalerType):
		d.scalar(n, v, path, "")
	case t == durationType:
		d.duration(n, v, path)
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.value(n, v.Elem(), path)
	case t.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case t.Kind() == reflect.Map:
		d.dictionary(n, v, path)
	case t.Kind() == reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path, map[reflect.Kind]string{
			reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.String: "a text"}[t.Kind()])
	}
}

// expect notes a problem unless n is of the kind.
func (d *decoder) expect(n *yaml.Node, kind yaml.Kind, path, what string) bool {
	if n.Kind == kind {
		return true
	}
	found := map[yaml.Kind]string{yaml.MappingNode: "keys", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}[n.Kind]
	d.add(n, path, Fatal, "expected %s, found %s", what, found)
	return false
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path, what string) {
	if what != "" && !d.expect(n, yaml.ScalarNode, path, what) {
		return
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		if what != "" {
			d.add(n, path, Fatal, "expected %s, found %q", what, n.Value)
			return
		}
		d.add(n, path, Fatal, "%s", firstLine(err))
	}
}

func firstLine(err error) string {
	var te *yaml.TypeError
	if errors.As(err, &te) && len(te.Errors) > 0 {
		return te.Errors[0]
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.ScalarNode, path, "a duration such as 30s or 15m") {
		return
	}
	text, days := n.Value, time.Duration(0)
	// Retention is told in days, which Go's durations do not know.
	if before, rest, ok := strings.Cut(text, "d"); ok {
		count, err := strconv.Atoi(before)
		if err != nil || count < 0 || count > 36500 {
			d.add(n, path, Fatal, "expected a duration such as 30s, 15m or 30d, found %q", n.Value)
			return
		}
		days, text = time.Duration(count)*24*time.Hour, rest
	}
	var rest time.Duration
	if text != "" || days == 0 {
		var err error
		if rest, err = time.ParseDuration(text); err != nil {
			d.add(n, path, Fatal, "expected a duration such as 30s, 15m or 30d, found %q", n.Value)
			return
		}
	}
	if days+rest < 0 {
		d.add(n, path, Fatal, "a duration cannot be negative")
		return
	}
	v.SetInt(int64(days + rest))
}

// pairs walks a mapping's keys and notes those that stand twice.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node)) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if line, ok := seen[key.Value]; ok {
			d.add(key, child(path, key.Value), Fatal, "stands twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		each(key, n.Content[i+1])
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys") {
		return
	}
	fields, names := fieldsOf(v)
	d.pairs(n, path, func(key, value *yaml.Node) {
		field, ok := fields[key.Value]
		if !ok {
			d.unknown(key, path, names)
			return
		}
		d.value(value, field, child(path, key.Value))
	})
}

// fieldsOf maps the keys of a struct to its fields.
func fieldsOf(v reflect.Value) (fields map[string]reflect.Value, names []string) {
	fields = make(map[string]reflect.Value)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name] = v.Field(i)
		names = append(names, name)
	}
	return fields, names
}

func (d *decoder) unknown(key *yaml.Node, path string, known []string) {
	if s := suggestion(key.Value, known); s != "" {
		d.add(key, child(path, key.Value), Fatal, "unknown key; did you mean %q?", s)
		return
	}
	sorted := slices.Sorted(slices.Values(known))
	d.add(key, child(path, key.Value), Fatal, "unknown key; known here: %s", strings.Join(sorted, ", "))
}

func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, child(path, key.Value))
		v.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.SequenceNode, path, "a list") {
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

// handler reads a handler: its type decides which keys stand beside the common ones.
func (d *decoder) handler(n *yaml.Node, h *Handler, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys") {
		return
	}
	typeName := ""
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "type" {
			typeName = n.Content[i+1].Value
			d.places[child(path, "type")] = n.Content[i+1]
		}
	}
	var names []string
	found := false
	for _, t := range d.types {
		names = append(names, t.Name)
		if t.Name == typeName {
			h.kind, found = t, true
		}
	}
	if !found {
		switch s := suggestion(typeName, names); {
		case typeName == "":
			d.add(n, path, Fatal, "type is missing; known types: %s", strings.Join(names, ", "))
		case s != "":
			d.at(child(path, "type"), Fatal, "unknown handler type %q; did you mean %q?", typeName, s)
		default:
			d.at(child(path, "type"), Fatal, "unknown handler type %q; known types: %s", typeName, strings.Join(names, ", "))
		}
		return
	}
	h.Config = h.kind.Config()
	h.Delivery.Concurrency = h.kind.Concurrency
	common, known := fieldsOf(reflect.ValueOf(h).Elem())
	own, ownNames := fieldsOf(reflect.ValueOf(h.Config).Elem())
	d.pairs(n, path, func(key, value *yaml.Node) {
		field, ok := common[key.Value]
		if !ok {
			field, ok = own[key.Value]
		}
		if !ok {
			d.unknown(key, path, append(ownNames, known...))
			return
		}
		d.value(value, field, child(path, key.Value))
	})
}

// suggestion is the known word that a mistyped one is nearest to, if any is near.
func suggestion(word string, known []string) string {
	best, nearest := "", max(2, len(word)/3)+1
	for _, k := range known {
		if distance := editDistance(strings.ToLower(word), strings.ToLower(k)); distance < nearest {
			best, nearest = k, distance
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
