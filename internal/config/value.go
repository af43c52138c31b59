package config

import (
	"fmt"
	"maps"
	"slices"

	"callbackd/internal/handler"

	"go.yaml.in/yaml/v3"
)

// Secret is a text that is never printed.
type Secret struct{ text string }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

const masked = "(secret)"

// String implements [fmt.Stringer].
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return masked
}

// Format implements [fmt.Formatter], for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// IsZero lets an empty secret be left out.
func (s Secret) IsZero() bool { return s.text == "" }

// MarshalText writes the mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML writes the mask.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// UnmarshalYAML reads the text.
func (s *Secret) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("expected a text")
	}
	s.text = n.Value
	return nil
}

// Bytes is a size with a unit.
type Bytes = handler.Bytes

func contains[T comparable](list []T, v T) bool { return slices.Contains(list, v) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
