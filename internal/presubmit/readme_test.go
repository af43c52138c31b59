package presubmit_test

import (
	"regexp"
	"strings"
)

// block is a fenced block of a document.
type block struct {
	info   string // what stands behind the opening fence
	text   string
	before string // the last line of text before it
	line   int
}

// blocks lists the fenced blocks of a document.
func blocks(document string) []block {
	var list []block
	var open *block
	before, number := "", 0
	for line := range strings.Lines(document) {
		number++
		info, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && open == nil:
			open = &block{info: info, before: before, line: number}
		case fence:
			list = append(list, *open)
			open, before = nil, ""
		case open != nil:
			open.text += line
		case strings.TrimSpace(line) != "":
			before = strings.TrimSpace(line)
		}
	}
	return list
}

var namedFile = regexp.MustCompile("`([\\w./-]+\\.(?:yaml|go))`")

// file is the name of the file that a block shows, as told in the line before it.
func (b block) file() string {
	if m := namedFile.FindStringSubmatch(b.before); m != nil {
		return m[1]
	}
	return ""
}

// longestHandler is how many lines a handler may take in the README: it is to be simple.
const longestHandler = 30

// readme: every block of the README is of a sort that a test carries out.
func readme(tr *tree, report func(string, ...any)) {
	handlers := 0
	for _, b := range blocks(tr.read("README.md")) {
		switch b.info {
		case "sh", "sh background", "text":
		case "yaml":
			if b.file() == "" {
				report("README.md:%d: the line before a yaml block names the file that it is, so that a test can save it", b.line)
			}
		case "go handler":
			handlers++
			if b.file() == "" {
				report("README.md:%d: the line before a handler names the file that it is, so that a test can save it", b.line)
			}
			if n := strings.Count(b.text, "\n"); n >= longestHandler {
				report("README.md:%d: the handler has %d lines, and fewer than %d are promised", b.line, n, longestHandler)
			}
		default:
			report("README.md:%d: no test carries out a block of %q", b.line, b.info)
		}
	}
	if handlers == 0 {
		report("README.md shows no handler of one's own")
	}
}
