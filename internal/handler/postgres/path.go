package postgres

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"callbackd/schemas"
)

const (
	wholeEvent = "."
	idPath     = "id"
)

// shape is what the JSON Schema of the event says of a value.
type shape struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]*shape `json:"properties"`
	Items      *shape            `json:"items"`
	Additional *shape            `json:"additionalProperties"`
	Defs       map[string]*shape `json:"$defs"`
}

// eventShape is that of the event. A path is held against it, for a member that is misspelt would be null for ever.
func eventShape() (*shape, error) {
	content, err := schemas.FS.ReadFile(schemas.Event)
	if err != nil {
		return nil, err
	}
	s := new(shape)
	return s, json.Unmarshal(content, s)
}

// describe says of what JSON type that is which a path from the root leads to.
func (s *shape) describe(path string) (string, error) {
	if path == wholeEvent {
		return s.Type, nil
	}
	at, walked := s, "the event"
	for segment := range strings.SplitSeq(path, ".") {
		next, err := at.member(segment)
		if err != nil {
			return "", fmt.Errorf("%s: %s %w", path, walked, err)
		}
		for next.Ref != "" {
			next = s.Defs[strings.TrimPrefix(next.Ref, "#/$defs/")]
		}
		at, walked = next, segment
	}
	return at.Type, nil
}

// member is the shape one step further. Its error goes on after the name of what it is about.
func (s *shape) member(segment string) (*shape, error) {
	switch {
	case s.Type == "array" && len(segment) > 0:
		return s.Items, nil
	case s.Additional != nil && len(segment) > 0:
		return s.Additional, nil
	case s.Type != "object":
		return nil, fmt.Errorf("is no object, and has no %q", segment)
	case s.Properties[segment] == nil:
		return nil, fmt.Errorf("has no %q; it has %s", segment, strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "))
	}
	return s.Properties[segment], nil
}

// find follows a path within an event as decoded from JSON; nil where it leads nowhere.
func find(event any, path string) any {
	if path == wholeEvent {
		return event
	}
	at := event
	for segment := range strings.SplitSeq(path, ".") {
		switch v := at.(type) {
		case map[string]any:
			at = v[segment]
		case []any:
			at = item(v, segment)
		default:
			return nil
		}
	}
	return at
}

// item is an item of a list: by its position, from 0, or the first whose kind or key it is, letter case aside. Of the identifiers of a device
// nobody knows the order.
func item(list []any, segment string) any {
	if i, err := strconv.Atoi(segment); err == nil {
		if i >= 0 && i < len(list) {
			return list[i]
		}
		return nil
	}
	for _, v := range list {
		object, _ := v.(map[string]any)
		for _, name := range []string{"kind", "key"} {
			if text, ok := object[name].(string); ok && strings.EqualFold(text, segment) {
				return v
			}
		}
	}
	return nil
}
