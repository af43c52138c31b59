package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"callbackd/internal/handler"

	"go.yaml.in/yaml/v3"
)

// decoder reads YAML into structs and notes every problem with its place. The library's own strict mode stops at the first
// problem of a struct and suggests nothing.
type decoder struct {
	file     string
	types    []handler.Type
	problems Problems
	places   map[string]place // of each path that was read
	spoiled  []string         // paths with a problem: what later checks say of them is noise
	values   int              // read so far
	sources  Sources
	// expansions are those of the environment, and expanded has what the file says in their places, by path.
	expansions []expansion
	expanded   map[string]string
}

// place is a line and a column, both from 1.
type place struct{ line, column int }

func placeOf(n *yaml.Node) place { return place{max(n.Line, 1), max(n.Column, 1)} }

// mostValues bounds what aliases can make of a small file.
const mostValues = 10_000

// document reads the text into c, and reports whether it could be parsed.
func (d *decoder) document(text []byte, c *Config) bool {
	d.places = map[string]place{"": {1, 1}}
	if !d.readable(text) {
		return false
	}
	var root, second yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	switch err := documents.Decode(&root); {
	case errors.Is(err, io.EOF) || err == nil && root.Content[0].Tag == "!!null":
		d.at("", Fatal, "the file is empty: `callbackd check --help` shows the least that it has to say")
		return false
	case err != nil:
		d.syntax(text, err)
		return false
	}
	if err := documents.Decode(&second); err == nil {
		d.add(placeOf(&second), "", Fatal, "a second YAML document begins after ---, and would not be read: keep one")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(text, err)
		return false
	}
	if !d.expect(root.Content[0], yaml.MappingNode, "", "keys with values") {
		return false
	}
	d.value(root.Content[0], reflect.ValueOf(c).Elem(), "")
	return d.values <= mostValues
}

// readable finds the bytes that YAML does not allow, for which the library names no place.
func (d *decoder) readable(text []byte) bool {
	at := place{1, 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			d.add(at, "", Fatal, "the byte 0x%02x is not UTF-8: save the file as UTF-8", text[0])
			return false
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			d.add(at, "", Fatal, "the control character %U does not belong into YAML: remove it", r)
			return false
		}
		at.column++
		if r == '\n' {
			at = place{at.line + 1, 1}
		}
		text = text[size:]
	}
	return true
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// syntax notes an error of the library. Its texts quote nothing of the file but the name of an alias, which may be the beginning
// of a password that stands without quotes.
func (d *decoder) syntax(text []byte, err error) {
	at, msg := place{1, 1}, err.Error()
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		msg = m[2]
		if line, err := strconv.Atoi(m[1]); err == nil {
			at.line = min(max(line, 1), 1+bytes.Count(text, []byte("\n"))) // the library counts past the end
		}
	}
	if strings.HasPrefix(msg, "unknown anchor") {
		msg = "an alias (*) names no anchor (&): put a text that begins with * in quotes"
	}
	d.add(at, "", Fatal, "not YAML, here or hereabouts: %s", msg)
}

// mostProblems bounds what one reads, and mends, at once.
const mostProblems = 100

func (d *decoder) add(at place, path string, s Severity, format string, args ...any) {
	switch len(d.problems) {
	case mostProblems + 1:
		return
	case mostProblems:
		path, s, format, args = "", Fatal, "too many problems: the rest is not shown", nil
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: at.line, Column: at.column, Path: path, Msg: fmt.Sprintf(format, args...), Severity: s})
}

// spoil keeps later checks from saying more about the path.
func (d *decoder) spoil(path string) { d.spoiled = append(d.spoiled, path) }

// bad notes a problem of the decoding, after which nothing else about the path is worth saying.
func (d *decoder) bad(n *yaml.Node, path string, format string, args ...any) {
	if len(d.problems) <= mostProblems {
		d.spoil(path)
	}
	d.add(placeOf(n), path, Fatal, format, args...)
}

// at notes a problem at the place of a path, or of what it stands in.
func (d *decoder) at(path string, s Severity, format string, args ...any) {
	if !d.isSpoiled(path) {
		d.add(d.placeOfPath(path), path, s, format, args...)
	}
}

func (d *decoder) placeOfPath(path string) place {
	for {
		if at, ok := d.places[path]; ok || path == "" {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// isSpoiled reports whether a problem was found at the path, around it or in it.
func (d *decoder) isSpoiled(path string) bool {
	return slices.ContainsFunc(d.spoiled, func(s string) bool { return within(s, path) || within(path, s) })
}

// within reports whether path is outer or stands in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[') && outer != ""
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

var (
	durationType        = reflect.TypeFor[time.Duration]()
	yamlUnmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	handlerType         = reflect.TypeFor[Handler]()
	secretType          = reflect.TypeFor[Secret]()
)

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.values++; d.values > mostValues {
		if d.values == mostValues+1 {
			d.bad(n, path, "this is value %d of the file, counting what aliases stand for: no configuration needs so many", d.values)
		}
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, ok := d.places[path]; !ok {
		d.places[path] = placeOf(n)
	}
	if n.Tag == "!!null" {
		d.null(n, v, path)
		return
	}
	t := v.Type()
	n, ok := d.expand(n, t, path)
	if !ok {
		return
	}
	switch {
	case t == handlerType:
		d.handler(n, v.Addr().Interface().(*Handler), path)
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		if d.expect(n, yaml.ScalarNode, path, "a single value") {
			d.scalar(n, v, path, "")
		}
	case reflect.PointerTo(t).Implements(yamlUnmarshalerType):
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
			reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.String: "a text", reflect.Float64: "a number"}[t.Kind()])
	}
}

// null is a key without a value, which is as if the key were not there, or stood there with nothing beneath. For a secret that is a trap: YAML takes one that begins with
// # for a comment, and one that begins with & for the name of nothing.
func (d *decoder) null(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem())) // it is there, with everything by default
	case v.Type() == secretType:
		d.bad(n, path, "is there without a value: put it in quotes if it begins with one of # & * ! ~ or is the word null")
	}
}

// expect notes a problem unless n is of the kind.
func (d *decoder) expect(n *yaml.Node, kind yaml.Kind, path, what string) bool {
	if n.Kind == kind {
		return true
	}
	found := map[yaml.Kind]string{yaml.MappingNode: "keys with values", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}[n.Kind]
	d.bad(n, path, "expected %s, found %s", what, found)
	return false
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path, what string) {
	if what != "" && !d.expect(n, yaml.ScalarNode, path, what) {
		return
	}
	err := n.Decode(v.Addr().Interface())
	if err == nil && v.Kind() == reflect.Int && n.ShortTag() != "!!int" {
		err = errFraction // which the library cuts off
	}
	if err != nil {
		if what != "" {
			d.bad(n, path, "expected %s, found %q", what, clip(n.Value))
			return
		}
		d.bad(n, path, "%s", firstLine(err))
	}
}

// clip keeps a problem readable, whatever stands in the file.
func clip(text string) string {
	const longest = 60
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "..."
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
	v64, err := parseDuration(n.Value)
	if err != nil {
		d.bad(n, path, "expected a duration such as 30s, 15m or 30d, found %q", clip(n.Value))
		return
	}
	v.SetInt(int64(v64))
}

// parseDuration reads Go's durations and days, which retention is told in and Go's do not know: "30d", "1d12h".
func parseDuration(text string) (time.Duration, error) {
	const day, mostDays = 24 * time.Hour, 36_500
	var days time.Duration
	if before, rest, ok := strings.Cut(text, "d"); ok {
		count, err := strconv.ParseUint(before, 10, 32)
		if err != nil || count > mostDays {
			return 0, errDuration
		}
		days, text = time.Duration(count)*day, rest
		if rest == "" {
			return days, nil
		}
	}
	rest, err := time.ParseDuration(text)
	if err != nil || rest < 0 || rest > mostDays*day {
		return 0, errDuration
	}
	return days + rest, nil
}

var (
	errDuration = errors.New("not a duration")
	errFraction = errors.New("not a whole number")
)

// pairs walks a mapping's keys and notes those that stand twice.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node)) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			d.bad(key, child(path, key.Value), "merging (<<) is not supported: write out the keys, or use an alias for a whole value")
			continue
		}
		if line, ok := seen[key.Value]; ok {
			d.bad(key, child(path, shownKey(key)), "stands twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		// A value that begins a line below is told where its key stands.
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			d.places[child(path, key.Value)] = placeOf(key)
		}
		each(key, value)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys with values") {
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

// shownKey is a key as problems show it: what stands after a colon may be a password.
func shownKey(key *yaml.Node) string {
	before, _, _ := strings.Cut(key.Value, ":")
	return clip(before)
}

func (d *decoder) unknown(key *yaml.Node, path string, known []string) {
	word := shownKey(key)
	if word != clip(key.Value) {
		d.bad(key, child(path, word), "a space is missing after the colon")
		d.spoil(path)
		return
	}
	if s := suggestion(word, known); s != "" {
		d.bad(key, child(path, word), "unknown key; did you mean %q?", s)
		d.spoil(child(path, s)) // and do not miss that one
		return
	}
	d.bad(key, child(path, word), "unknown key; known here: %s", strings.Join(slices.Sorted(slices.Values(known)), ", "))
}

func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys with values") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, child(path, key.Value))
		if item.IsNil() {
			return // past a limit, which was noted
		}
		v.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if !d.expect(n, yaml.SequenceNode, path, "a list") {
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, list.Index(i), indexed(path, i))
	}
	v.Set(list)
}

// handler reads a handler: its type decides which keys stand beside the common ones.
func (d *decoder) handler(n *yaml.Node, h *Handler, path string) {
	if !d.expect(n, yaml.MappingNode, path, "keys with values") {
		return
	}
	if !d.handlerKind(n, h, path) {
		return
	}
	h.Config = h.kind.Config()
	h.Delivery = defaultDelivery(h.kind)
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

// handlerKind reads the type of a handler, before its other keys.
func (d *decoder) handlerKind(n *yaml.Node, h *Handler, path string) bool {
	path = child(path, "type")
	var at *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "type" {
			at = n.Content[i+1]
		}
	}
	if at != nil {
		var ok bool
		if at, ok = d.expand(at, reflect.TypeFor[string](), path); !ok {
			return false
		}
	}
	var names []string
	for _, t := range d.types {
		if at != nil && t.Name == at.Value {
			h.kind = t
			return true
		}
		names = append(names, t.Name)
	}
	if at == nil {
		d.bad(n, path, "missing; known types: %s", strings.Join(names, ", "))
	} else {
		d.bad(at, path, "%s", unknownWord("handler type", at.Value, names))
	}
	return false
}
