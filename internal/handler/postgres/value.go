package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/handler"
)

// columnType is a type of PostgreSQL.
type columnType string

const (
	text        columnType = "text"
	bigint      columnType = "bigint"
	numeric     columnType = "numeric"
	timestamptz columnType = "timestamptz"
	timestamp   columnType = "timestamp"
	jsonb       columnType = "jsonb"
)

func types() []columnType { return []columnType{text, bigint, numeric, timestamptz, timestamp, jsonb} }

func typeNames() (names []string) {
	for _, t := range types() {
		names = append(names, string(t))
	}
	return names
}

func (c Column) sqlType() columnType {
	if c.Type == "" {
		return text
	}
	return c.Type
}

// takenBy lists the types of a table's column, by their names in the catalogue, that take what is checked to be of type t. A type that would
// refuse most values is none of them, for each refusal buries a delivery.
func (t columnType) takenBy() []string {
	return append(map[columnType][]string{
		text: {"citext"}, bigint: {"int8", "int4", "int2", "numeric"}, numeric: {"numeric", "float8", "float4"},
		timestamptz: {"timestamptz"}, timestamp: {"timestamp"}, jsonb: {"jsonb", "json"},
	}[t], "text", "varchar", "bpchar")
}

// row is a delivery as the values of the columns, each a text or nil. Its errors name the column, and not the value.
func row(columns []Column, d *handler.Delivery) ([]any, error) {
	whole, err := d.Event().JSON()
	if err != nil {
		return nil, err
	}
	var event any
	decoder := json.NewDecoder(bytes.NewReader(whole))
	decoder.UseNumber()
	if err := decoder.Decode(&event); err != nil {
		return nil, fmt.Errorf("unmarshal event: %w", err)
	}
	values := make([]any, len(columns))
	for i, c := range columns {
		value, err := c.value(find(event, c.Path))
		if err != nil {
			return nil, fmt.Errorf("column %q: %s %w", c.Name, c.Path, err)
		}
		values[i] = value
	}
	return values, nil
}

// value is a value of the event as the column takes it. Its error goes on after the path.
func (c Column) value(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	if c.sqlType() == jsonb {
		return asJSON(v)
	}
	s, err := asText(v)
	if err != nil || c.sqlType() == text {
		return s, err
	}
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	if !fits(c.sqlType(), s) {
		return nil, fmt.Errorf("holds what is no %s", c.sqlType())
	}
	return s, nil
}

var errNUL = errors.New("holds the character U+0000, which PostgreSQL does not store")

func asJSON(v any) (any, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	if hasNUL(v) {
		return nil, errNUL
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// hasNUL looks for U+0000 in texts and names.
func hasNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "\x00")
	case []any:
		for _, item := range v {
			if hasNUL(item) {
				return true
			}
		}
	case map[string]any:
		for name, item := range v {
			if hasNUL(name) || hasNUL(item) {
				return true
			}
		}
	}
	return false
}

func asText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		if hasNUL(v) {
			return "", errNUL
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("is no single value")
}

// decimal is a number as it is written in decimals. Its digits and its exponent are bounded so that what is stored is.
var decimal = regexp.MustCompile(`^[+-]?(\d{1,500}(\.\d{0,500})?|\.\d{1,500})([eE][+-]?\d{1,3})?$`)

// fits reports whether the server takes the text for the type.
func fits(t columnType, s string) bool {
	switch t {
	case bigint:
		_, err := strconv.ParseInt(s, 10, 64)
		return err == nil
	case numeric:
		return decimal.MatchString(s)
	case timestamptz:
		at, err := time.Parse(time.RFC3339Nano, s)
		return err == nil && at.Year() > 0
	case timestamp: // without a zone: the server would drop one
		at, err := time.Parse("2006-01-02T15:04:05.999999999", s)
		return err == nil && at.Year() > 0
	}
	return true
}
