package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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

// Bytes is a size with a unit: "8MiB", "10GiB", "512KiB", or a plain number of bytes.
type Bytes int64

var units = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}

// UnmarshalYAML reads a size.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	number, unit := n.Value, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(n.Value, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil || v < 0 || v > (1<<62)/unit {
		return fmt.Errorf("expected a size such as 8MiB or 10GiB")
	}
	*b = Bytes(v * unit)
	return nil
}

// MarshalYAML writes the size with the largest unit that fits.
func (b Bytes) MarshalYAML() (any, error) { return b.String(), nil }

func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func contains[T comparable](list []T, v T) bool { return slices.Contains(list, v) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
