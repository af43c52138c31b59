package config

import (
	"crypto/sha256"
	"maps"
	"os"
	"slices"
)

// Sources are the files that a configuration was read from, as they were then: its own, and those that its keys name. The files of
// handlers are not among them, for they are read by the handlers.
type Sources map[string]digest

// digest is that of a file's text; one that could not be read has that of no text.
type digest [sha256.Size]byte

func (s Sources) note(path string, text []byte) { s[path] = sha256.Sum256(text) }

// Paths lists the files.
func (s Sources) Paths() []string { return slices.Sorted(maps.Keys(s)) }

// Now are the same files as they are now.
func (s Sources) Now() Sources {
	now := maps.Clone(s)
	for path := range s {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			continue // a pipe, say, which is read once
		}
		text, _ := readBounded(path, mostText) // no text, if it cannot be read
		now.note(path, text)
	}
	return now
}

// Changed reports whether one of the files is not any more as it was read.
func (s Sources) Changed() bool { return !maps.Equal(s, s.Now()) }

// Sources are the files that the configuration was read from.
func (c *Config) Sources() Sources { return c.sources }
