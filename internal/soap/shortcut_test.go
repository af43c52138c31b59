package soap_test

import (
	"fmt"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// walk writes down what a reader gets to see. One that takes short cuts writes the same, white space before tags aside.
func walk(document string, limits soap.Limits, short bool) (seen []string, err error) {
	var s soap.Scanner
	s.Reset(document, limits)
	add := func(what, text string) {
		from, to := s.Span()
		seen = append(seen, fmt.Sprint(what, " ", text, " ", s.Depth(), " ", from, "-", to))
	}
	for {
		if short {
			s.Blank()
		}
		token, err := s.Next()
		if err != nil || token == soap.EOF {
			return seen, err
		}
		switch token {
		case soap.Start:
			add("start", fmt.Sprint(s.Name(), s.Attrs(), s.Nil()))
			if text, ok := s.Leaf(); short && ok {
				if strings.Trim(text, " \n\t") != "" {
					seen = append(seen, "text "+text)
				}
				s.TakeLeaf(text)
				add("end", s.Name().String())
			}
		case soap.End:
			add("end", s.Name().String())
		case soap.Text:
			if strings.Trim(s.Text(), " \n\t") != "" {
				seen = append(seen, "text "+s.Text())
			}
		}
	}
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
			want, wantErr := walk(document, limits, false)
			got, err := walk(document, limits, true)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q\nby short cuts %q, %v\nwant %q, %v", document, got, err, want, wantErr)
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
