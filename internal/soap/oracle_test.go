package soap_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
)

// TestXmllintAgreesWithTheRules holds every rule of the tables against xmllint: where the two differ, the rule says why.
func TestXmllintAgreesWithTheRules(t *testing.T) {
	t.Parallel()
	complaints := xmllint(t, "the rules of XML as the tables of this package have them", ruleDocuments())
	families := allRules()
	i := 0
	for _, family := range slices.Sorted(maps.Keys(families)) {
		for _, r := range families[family] {
			complaint := complaints[i]
			i++
			switch {
			case r.refusal == "" && complaint != "":
				t.Errorf("%s, %s: xmllint refuses what we take: %s", family, r.name, complaint)
			case r.refusal != "" && complaint == "" && r.stricter == "":
				t.Errorf("%s, %s: xmllint takes what we refuse, and the rule does not say why", family, r.name)
			case complaint != "" && r.stricter != "":
				t.Errorf("%s, %s: the rule says that xmllint takes this, and it does not: %s", family, r.name, complaint)
			}
		}
	}
}

// TestNothingThatXmllintRefuses mutates well-formed documents: what we take of them, xmllint calls well-formed.
func TestNothingThatXmllintRefuses(t *testing.T) {
	t.Parallel()
	documents := slices.Concat(corpus(), mutants(corpus(), 150), mutants(ruleDocuments(), 1))
	complaints := xmllint(t, "that no mutant passes which is not well-formed", documents)
	accepted := 0
	for i, document := range documents {
		if read(slices.Clone(document), "") != nil {
			continue
		}
		accepted++
		if complaints[i] != "" {
			t.Errorf("we take what xmllint refuses: %q\n%s", document, complaints[i])
		}
	}
	t.Logf("%d documents, %d taken", len(documents), accepted)
	if accepted < len(documents)/10 || accepted > len(documents)*9/10 {
		t.Errorf("%d of %d documents are taken: the mutations show nothing", accepted, len(documents))
	}
}

// xmllint is what xmllint has against each of the documents.
func xmllint(t *testing.T, unchecked string, documents [][]byte) []string {
	program := counterpart.Program(t, "xmllint", unchecked)
	dir := t.TempDir()
	for i, document := range documents {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.xml", i)), document, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	complaints := make([]string, len(documents))
	const batch = 500
	for from := 0; from < len(documents); from += batch {
		args := []string{"--noout", "--nonet"}
		for i := from; i < min(len(documents), from+batch); i++ {
			args = append(args, fmt.Sprintf("%06d.xml", i))
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = dir
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 1 { // 1: some document is not well-formed
			t.Fatalf("%v\n%.1000s", err, stderr.String())
		}
		for _, m := range complaint.FindAllStringSubmatch(stderr.String(), -1) {
			i, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			// That a namespace name is no URI is an error to xmllint alone; the name may go on over several lines.
			if complaints[i] == "" && !notURI.MatchString(m[2]) {
				complaints[i] = m[2]
			}
		}
	}
	return complaints
}

// complaint matches an error of xmllint, warnings left out.
var complaint = regexp.MustCompile(`(?m)^(\d{6})\.xml:\d+: (\w+ error : .*)$`)

var notURI = regexp.MustCompile(`^namespace error : xmlns\S*: '`)
