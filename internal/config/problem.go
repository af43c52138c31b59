package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity of a problem.
type Severity uint8

const (
	// Warning is worth a look.
	Warning Severity = iota
	// Unregistrable is what keeps a listener from being registered: a URL that the platform would refuse, a log-in without a password.
	// `check` refuses it; `serve` only warns, for what was registered long ago is received all the same.
	Unregistrable
	// Unread is what keeps callbackd from starting, and an operator's command from nothing: a secret, certificate or variable that whoever
	// runs the command has not, and callbackd may well have.
	Unread
	// Fatal keeps the program from starting.
	Fatal
)

func (s Severity) String() string { return [...]string{"warning", "error", "error", "error"}[s] }

// Problem is something wrong, with its place.
type Problem struct {
	File         string
	Line, Column int // from 1; of what it stands in where the problem is that something is not there
	Path         string
	Msg          string
	Severity     Severity
}

func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s: ", p.File, p.Line, p.Column, p.Severity)
	if p.Path != "" {
		s += p.Path + ": "
	}
	return s + p.Msg
}

// Problems are in the order of the file.
type Problems []Problem

// Worst is the worst severity, Warning if there is no problem.
func (ps Problems) Worst() Severity {
	worst := Warning
	for _, p := range ps {
		worst = max(worst, p.Severity)
	}
	return worst
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Invalid is a configuration that nothing can start with.
type Invalid struct {
	Problems Problems
	// Sources are the files that were read: to mend it, one of them changes.
	Sources Sources
	// DataDir is data_dir, if that much can be told.
	DataDir string
	// Readable is the configuration without what is [Unread], if nothing else is wrong. Nothing can be received with it.
	Readable *Config
}

func (e *Invalid) Error() string {
	var lines []string
	for _, p := range e.Problems {
		if p.Severity >= Unread {
			lines = append(lines, p.String())
		}
	}
	return strings.Join(lines, "\n")
}
