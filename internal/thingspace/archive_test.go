package thingspace_test

import (
	"bytes"
	"fmt"
	"strings"
)

// archive is a text in the txtar format of the Go project: a comment, and files that each begin with a line "-- NAME --".
type archive struct {
	comment string
	files   []file
}

type file struct{ name, text string }

func parseArchive(text string) (a archive) {
	for line := range strings.Lines(text) {
		name, isName := strings.CutPrefix(line, "-- ")
		if name, isName = strings.CutSuffix(name, " --\n"); isName && strings.HasPrefix(line, "-- ") {
			a.files = append(a.files, file{name: name})
			continue
		}
		if n := len(a.files); n > 0 {
			a.files[n-1].text += line
		} else {
			a.comment += line
		}
	}
	return a
}

// String is what parseArchive reads. A text without a line end at its end gets one.
func (a archive) String() string {
	var b bytes.Buffer
	b.WriteString(a.comment)
	for _, f := range a.files {
		fmt.Fprintf(&b, "-- %s --\n%s", f.name, f.text)
		if f.text != "" && !strings.HasSuffix(f.text, "\n") {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (a archive) file(name string) string {
	for _, f := range a.files {
		if f.name == name {
			return f.text
		}
	}
	return ""
}
