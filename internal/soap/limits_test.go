package soap_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// TestLimits tries each cap below, at and above what a document needs.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		document string
		needs    int
		set      func(*soap.Limits, int)
		refusal  string
	}{
		{"depth", "<a><b><c/></b><d/></a>", 3, func(l *soap.Limits, n int) { l.Depth = n }, "more than 2 levels of elements"},
		{"attributes", `<a b="" c=""/>`, 2, func(l *soap.Limits, n int) { l.Attributes = n }, "more than 1 attributes on one element"},
		{"attributes, declarations included", `<a xmlns="u" xmlns:p="v" p:b=""/>`, 3, func(l *soap.Limits, n int) { l.Attributes = n }, "more than 2 attributes"},
		{"namespaces", `<a xmlns="u"><b xmlns:p="u"/><c xmlns:p="v" xmlns="w"/></a>`, 3, func(l *soap.Limits, n int) { l.Namespaces = n }, "more than 2 namespace declarations in scope"},
		{"tokens", `<a b="c"><!--d-->e<?f?><g/><![CDATA[h]]></a>`, 8, func(l *soap.Limits, n int) { l.Tokens = n }, "more than 7 tags"},
		{"tokens outside the root", `<!--a--><b/><?c?>`, 3, func(l *soap.Limits, n int) { l.Tokens = n }, "more than 2 tags"},
		{"an element's name", "<p:abc xmlns:p='u'/>", 7, func(l *soap.Limits, n int) { l.Name = max(n, 1) }, "more than 6 bytes in one name"},
		{"an attribute's name", "<a abcde=''/>", 5, func(l *soap.Limits, n int) { l.Name = n }, "more than 4 bytes in one name"},
		{"a PI's name", "<a><?abcde?></a>", 5, func(l *soap.Limits, n int) { l.Name = n }, "more than 4 bytes in one name"},
		{"a name beyond ASCII", "<éé/>", 4, func(l *soap.Limits, n int) { l.Name = n }, "more than 3 bytes in one name"},
		{"text", "<a>abcde</a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"text, as written", "<a>&amp;</a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"text of white space", "<a>     <b/></a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"CDATA", "<a><![CDATA[abcde]]></a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"an attribute value", "<a b='abcde'/>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"a namespace name", "<a xmlns='abcde'/>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"a comment", "<a><!--abcde--></a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
		{"a PI's content, its white space included", "<a><?p abcd?></a>", 5, func(l *soap.Limits, n int) { l.Text = n }, "more than 4 bytes in one text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for most := c.needs - 1; most <= c.needs+1; most++ {
				var limits soap.Limits
				c.set(&limits, most)
				err := scan(c.document, limits)
				switch {
				case most >= c.needs && err != nil:
					t.Errorf("at %d: %v", most, err)
				case most < c.needs && (!errors.Is(err, soap.ErrLimit) || !strings.Contains(err.Error(), c.refusal)):
					t.Errorf("at %d: got %v, want %v with %q", most, err, soap.ErrLimit, c.refusal)
				case most < c.needs && !strings.HasPrefix(err.Error(), "line 1, column "):
					t.Errorf("at %d: %q has no place", most, err)
				}
			}
		})
	}
}

// TestEveryTokenCounts: whichever token exceeds the cap is refused.
func TestEveryTokenCounts(t *testing.T) {
	t.Parallel()
	const document = `<!--1--><?p 2?><a3 b4="" xmlns:p="5">6<c7/><!--8--><?p 9?><![CDATA[10]]><d11></d11></a3>`
	for most := 1; most <= 13; most++ {
		err := scan(document, soap.Limits{Tokens: most})
		if most < 13 && !errors.Is(err, soap.ErrLimit) {
			t.Errorf("%d of 13 tokens: got %v, want %v", most, err, soap.ErrLimit)
		}
		if most == 13 && err != nil {
			t.Errorf("13 tokens: %v", err)
		}
	}
}

// TestDefaultLimits tries every default cap at its value and one above.
func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	d := soap.Limits{}.WithDefaults()
	if want := (soap.Limits{Bytes: 8 << 20, Depth: 64, Attributes: 64, Namespaces: 64, Tokens: 2_000_000, Name: 1024, Text: 1 << 20}); d != want {
		t.Errorf("the defaults are %+v, documented are %+v", d, want)
	}
	if got := (soap.Limits{Depth: 3}).WithDefaults(); got.Depth != 3 || got.Text != d.Text {
		t.Errorf("a field that is set does not stay, or the others are not set: %+v", got)
	}
	for name, document := range map[string]func(over int) string{
		"bytes": func(over int) string {
			length := d.Bytes + over - len(in(""))
			unit := fmt.Sprintf("%-80s", "<b/>")
			return in(strings.Repeat(unit, length/len(unit)) + strings.Repeat(" ", length%len(unit)))
		},
		"depth": func(over int) string {
			return strings.Repeat("<a>", d.Depth+over) + strings.Repeat("</a>", d.Depth+over)
		},
		"attributes": func(over int) string { return "<a " + numbered(`b%d="" `, d.Attributes+over) + "/>" },
		"namespaces": func(over int) string {
			half := d.Namespaces / 2
			return "<a " + numbered(`xmlns:p%d="u" `, half) + "><a " + numbered(`xmlns:p%d="u" `, half-1) + "><a " + numbered(`xmlns:q%d="u" `, 1+over) + "/></a></a>"
		},
		"tokens": func(over int) string { return in(strings.Repeat("<b/>", d.Tokens+over-3)) },
		"name":   func(over int) string { return "<" + strings.Repeat("a", d.Name+over) + "/>" },
		"text":   func(over int) string { return in(strings.Repeat("a", d.Text+over)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := read([]byte(document(0)), ""); err != nil {
				t.Errorf("at the cap: %v", err)
			}
			if err := read([]byte(document(1)), ""); !errors.Is(err, soap.ErrLimit) {
				t.Errorf("above the cap: got %v, want %v", err, soap.ErrLimit)
			}
		})
	}
}

func TestDefaultLimitsAdmit2000Collections(t *testing.T) {
	t.Parallel()
	for _, collections := range []int{2000, 5000} { // "several times over"
		if err := read([]byte(message(collections)), ""); err != nil {
			t.Errorf("%d collections: %v", collections, err)
		}
	}
}
