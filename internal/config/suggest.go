package config

import (
	"fmt"
	"strings"
)

// unknownWord says that a word is none of the known, with a suggestion.
func unknownWord(what, word string, known []string) string {
	if s := suggestion(word, known); s != "" {
		return fmt.Sprintf("unknown %s %q; did you mean %q?", what, clip(word), s)
	}
	return fmt.Sprintf("unknown %s %q; known: %s", what, clip(word), strings.Join(known, ", "))
}

// suggestion is the known word that a mistyped one is nearest to, if any is near.
func suggestion(word string, known []string) string {
	const longest = 64 // nothing known is longer
	if word == "" || len(word) > longest {
		return ""
	}
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
