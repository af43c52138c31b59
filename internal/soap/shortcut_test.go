package soap_test

import (
	"fmt"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// way is which short cuts a reader takes.
type way uint8

const (
	byTokens way = iota
	byTags
	byLeaves
	byWholes
)

// walk writes down what a reader gets to see. One that takes short cuts sees the same, white space before tags aside.
func walk(document string, limits soap.Limits, by way) (seen []string, err error) {
	var s soap.Scanner
	s.Reset(document, limits)
	add := func(what ...any) { seen = append(seen, fmt.Sprint(what...)) }
	text := func(text string) {
		if strings.Trim(text, " \n\t") != "" {
			add("text ", text)
		}
	}
	for {
		token, shape := soap.EOF, soap.Unclear
		if by != byTokens {
			shape = s.Ahead()
		}
		switch {
		case by == byWholes && (shape == soap.Whole || shape == soap.WholeNil):
			name, content := s.AheadName(), ""
			if shape == soap.Whole {
				content = s.AheadText()
			}
			s.TakeWhole()
			from, to := s.Span()
			add("start ", name, shape == soap.WholeNil, s.Depth()+1, from)
			text(content)
			add("end ", s.Depth(), to)
			continue
		case shape != soap.Unclear:
			text(s.AheadBlank())
			token = s.TakeTag()
		default:
			if token, err = s.Next(); err != nil || token == soap.EOF {
				return seen, err
			}
		}
		from, to := s.Span()
		switch token {
		case soap.Start:
			add("start ", s.Name(), s.Nil(), s.Depth(), from)
		case soap.End:
			add("end ", s.Depth(), to)
		case soap.Text:
			text(s.Text())
		}
		if content, ok := leaf(&s, token, by); ok {
			text(content)
			s.TakeLeaf(content)
			_, to := s.Span()
			add("end ", s.Depth(), to)
		}
	}
}

func leaf(s *soap.Scanner, token soap.Token, by way) (string, bool) {
	if token != soap.Start || by != byLeaves {
		return "", false
	}
	return s.Leaf()
}

// TestShortCuts reads documents with and without the short cuts, whole and cut short, and under limits of every size: what is seen, where, and
// what is refused is the same.
func TestShortCuts(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		message(1),
		`<a xmlns="urn:a" xmlns:xsi="` + soap.XSI + `"><b>x</b><b> x </b><b></b><b/><b xsi:nil="true"/><c xmlns=""><b>1</b></c><b>&lt;</b><b>]]</b><b>x</b ></a>`,
		`<a xmlns:xsi="urn:other"><b xsi:nil="true"/><xsi:b>x</xsi:b></a>`,
		"<a>\n <b>\r\n</b>\t<!-- c --> <b>\u20ac\uffee</b>\n<b><![CDATA[x]]></b><b>x<c/></b>\n</a>\n",
		`<a><b xsi:nil="true"/></a>`,
		"<a><b>\uffff</b></a>", "<a><b>x</c></a>", "<a><b>]]></b></a>", "<a>\n\x01</a>", "<a>\n", "<a><b>x</b>", "<a></a>\n<b></b>",
	} {
		compare := func(document string, limits soap.Limits) {
			t.Helper()
			want, wantErr := walk(document, limits, byTokens)
			for by := byTags; by <= byWholes; by++ {
				got, err := walk(document, limits, by)
				if fmt.Sprint(err) != fmt.Sprint(wantErr) || strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Fatalf("%q\nby short cuts %d: %q, %v\nwant %q, %v", document, by, got, err, want, wantErr)
				}
			}
		}
		for end := range len(document) + 1 {
			compare(document[:end], soap.Limits{})
		}
		for most := 1; most < 60; most++ {
			compare(document, soap.Limits{Tokens: most})
			compare(document, soap.Limits{Text: most})
			compare(document, soap.Limits{Depth: most, Name: most})
			compare(document, soap.Limits{Attributes: most})
		}
	}
}
