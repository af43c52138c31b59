package soap_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// TestValues holds what is read against what XML 1.0 says: line ends (section 2.11), attribute values (3.3.3), references (4.1).
func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, document, want string }{
		{"CR LF is one line end", "<a>\r\n</a>", `text "\n"`},
		{"CR alone is a line end", "<a>\r</a>", `text "\n"`},
		{"CR CR LF is two", "<a>\r\r\n</a>", `text "\n\n"`},
		{"LF CR is two", "<a>\n\r</a>", `text "\n\n"`},
		{"a CR by reference stays", "<a>&#13;&#xD;\n</a>", `text "\r\r\n"`},
		{"a CR before an LF by reference", "<a>\r&#10;</a>", `text "\n\n"`},
		{"line ends in CDATA", "<a><![CDATA[\r\n\r&#13;]]></a>", `text "\n\n&#13;"`},
		{"U+0085 and U+2028 are no line ends", "<a>\u0085\u2028</a>", "text \"\\u0085\\u2028\""},
		{"white space in text stays", "<a> \t b \n </a>", `text " \t b \n "`},
		{"references", "<a>&lt;&#65;&#x1F600;&amp;lt;</a>", `text "<A😀&lt;"`},
		{"text, CDATA and comments are one value", "<a>b<![CDATA[&]]><!-- c -->d<?p?>e</a>", `text "b&de"`},
		{"tab and line feed in an attribute are blanks", "<a b='\tc\nd'/>", `start a b=" c d"`},
		{"CR LF in an attribute is one blank", "<a b='c\r\nd\re'/>", `start a b="c d e"`},
		{"white space by reference in an attribute stays", "<a b='&#9;&#10;&#13; '/>", `start a b="\t\n\r "`},
		{"an attribute is not trimmed", "<a b='  c  '/>", `start a b="  c  "`},
		{"references in an attribute", `<a b="&quot;&apos;&lt;é"/>`, `start a b="\"'<é"`},
		{"a prefix", "<p:a xmlns:p='u' p:b='c' d='e'/>", `start {u}a {u}b="c" d="e"`},
		{"a default namespace", "<a xmlns='u' b='c'/>", `start {u}a b="c"`},
		{"xml's own namespace", "<a xml:lang='en'/>", `start a {http://www.w3.org/XML/1998/namespace}lang="en"`},
		{"a namespace name is an attribute value", "<a xmlns='u&#38;\nv'/>", "start {u& v}a"},
		{"a default namespace ends with its element", "<a><b xmlns='u'/><c/></a>", "start c"},
		{"a default namespace is undeclared", "<a xmlns='u'><b xmlns=''/></a>", "start b"},
		{"an end tag's name is resolved", "<p:a xmlns:p='u'></p:a>", "end {u}a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			told := mustTake(t, c.document)
			if !slices.Contains(strings.Split(told, "\n"), c.want) {
				t.Errorf("got\n%swant in it\n%s", told, c.want)
			}
		})
	}
}

// differences from encoding/xml: the whole list, each with its reason and a document that shows it. Where both take a document, only the
// first three make them read different values, and sameTokens allows for no other.
var differences = []struct {
	reason, document string
	ours, theirs     string // the tokens, or part of the refusal
}{
	{"attribute values are normalised (XML 1.0, 3.3.3): each literal tab or line end is a blank; encoding/xml leaves them",
		"<a b='c\td\ne\r\nf'/>", `start a b="c d e f"` + "\nend a\n", `start a b="c\td\ne\nf"` + "\nend a\n"},
	{"so is the name of a namespace, which is an attribute value",
		"<a xmlns='u\nv'/>", "start {u v}a\nend {u v}a\n", `start {u\nv}a xmlns="u\nv"` + "\n" + `end {u\nv}a` + "\n"},
	{"a declaration of a namespace is no attribute (Namespaces, 3); encoding/xml lists it among them",
		"<a xmlns='u' xmlns:p='v' b=''/>", `start {u}a b=""` + "\nend {u}a\n", `start {u}a xmlns="u" {xmlns}p="v" b=""` + "\nend {u}a\n"},

	{"an undeclared prefix is an error (Namespaces, 5); encoding/xml takes the prefix for the namespace",
		"<p:a/>", `namespace prefix "p" is not declared`, "start {p}a\nend {p}a\n"},
	{"an attribute stands once (XML 1.0, 3.1); encoding/xml gives both",
		"<a b='1' b='2'/>", `attribute "b" stands twice`, `start a b="1" b="2"` + "\nend a\n"},
	{"a document has one root (XML 1.0, 2.1); encoding/xml reads on",
		"<a/><b/>", "a second element after the root", "start a\nend a\nstart b\nend b\n"},
	{"only white space stands around the root (XML 1.0, 2.8); encoding/xml reads text",
		"<a/>x", "text after the last element", "start a\nend a\ntext \"x\"\n"},
	{"no DTD is read; encoding/xml passes over it",
		"<!DOCTYPE a><a/>", "a document type declaration is not accepted", "start a\nend a\n"},
	{"a name has at most one colon, and not at an end (Namespaces, 4); encoding/xml takes any",
		"<:a/>", "a name is missing or malformed", "start :a\nend :a\n"},
	{"a prefix cannot be undeclared (Namespaces, 5); encoding/xml takes it",
		"<p:a xmlns:p=''/>", `namespace prefix "p" cannot be undeclared`, `start a {xmlns}p=""` + "\nend a\n"},
	{"the XML declaration stands at the beginning (XML 1.0, 2.8); encoding/xml takes it anywhere",
		"<a><?xml version='1.0'?></a>", "an XML declaration that does not begin the document", "start a\nend a\n"},
	{"an attribute needs white space before it (XML 1.0, 3.1); encoding/xml does not ask for it",
		"<a b='1'c='2'/>", "white space is missing before an attribute", `start a b="1" c="2"` + "\nend a\n"},
	{"a processing instruction needs white space after its name (XML 1.0, 2.6); encoding/xml does not ask for it",
		"<a><?p+?></a>", "white space is missing after", "start a\nend a\n"},
	{"comments hold no forbidden characters (XML 1.0, 2.2); encoding/xml does not look",
		"<a><!--\x01--></a>", "character U+0001 is not allowed", "start a\nend a\n"},

	{"names are those of the fifth edition (XML 1.0, 2.3); encoding/xml has those of the fourth",
		"<\u0220/>", "start \u0220\nend \u0220\n", "invalid XML name"},
}

func TestDifferencesFromEncodingXML(t *testing.T) {
	t.Parallel()
	for _, d := range differences {
		t.Run(d.reason, func(t *testing.T) {
			t.Parallel()
			ours, err := take(d.document)
			if err != nil {
				ours = err.Error()
			}
			theirs, err := takeTheirs(d.document, false)
			if err != nil {
				theirs = err.Error()
			}
			for _, c := range []struct{ who, got, want string }{{"soap", ours, d.ours}, {"encoding/xml", theirs, d.theirs}} {
				if c.got != c.want && (strings.HasSuffix(c.want, "\n") || !strings.Contains(c.got, c.want)) {
					t.Errorf("%s: got\n%s\nwant\n%s", c.who, c.got, c.want)
				}
			}
		})
	}
}

// TestSameValuesAsEncodingXML: what both take, both read alike.
func TestSameValuesAsEncodingXML(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, raw := range slices.Concat(corpus(), ruleDocuments(), mutants(corpus(), 300), mutants(ruleDocuments(), 5)) {
		document, _, err := soap.Decode(raw, "", soap.Limits{})
		if err != nil {
			continue
		}
		if both, err := sameTokens(document); err != nil {
			t.Errorf("%q: %v", document, err)
		} else if both {
			compared++
		}
	}
	t.Logf("%d documents compared", compared)
	if compared < 500 {
		t.Errorf("only %d documents compared", compared)
	}
}

// sameTokens compares what this package and encoding/xml read, the documented differences aside, and reports whether both took it.
func sameTokens(document string) (both bool, err error) {
	ours, err := take(document)
	if err != nil {
		return false, nil
	}
	theirs, err := takeTheirs(document, true)
	if err != nil {
		return false, nil
	}
	a, b := strings.Split(blankTags(ours), "\n"), strings.Split(blankTags(theirs), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return true, fmt.Errorf("got %s, encoding/xml has %s", a[i], b[i])
		}
	}
	if len(a) != len(b) {
		return true, fmt.Errorf("got %d tokens, encoding/xml has %d", len(a), len(b))
	}
	return true, nil
}

// blankTags makes every white space in attribute values and namespace names, as %q tells it, a blank.
func blankTags(told string) string {
	lines := strings.Split(told, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "text ") {
			lines[i] = strings.NewReplacer(`\\`, `\\`, `\t`, " ", `\n`, " ", `\r`, " ").Replace(line)
		}
	}
	return strings.Join(lines, "\n")
}

// takeTheirs tells the tokens of encoding/xml as take tells ours. With allow set it makes allowance for the differences in values.
func takeTheirs(document string, allow bool) (string, error) {
	d := xml.NewDecoder(strings.NewReader(document))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // it is transcoded by now
	var told, text strings.Builder
	depth := 0
	flush := func() {
		if text.Len() > 0 && (depth > 0 || strings.Trim(text.String(), " \t\r\n") != "") {
			fmt.Fprintf(&told, "text %q\n", text.String())
		}
		text.Reset()
	}
	name := func(n xml.Name) string { return tellName(soap.Name{Space: n.Space, Local: n.Local}) }
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			flush()
			return told.String(), nil
		}
		if err != nil {
			return told.String(), err
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			flush()
			depth++
			fmt.Fprintf(&told, "start %s", name(token.Name))
			for _, a := range token.Attr {
				if declares := a.Name.Space == "xmlns" || a.Name == (xml.Name{Local: "xmlns"}); declares && allow {
					continue
				}
				fmt.Fprintf(&told, " %s=%q", name(a.Name), a.Value)
			}
			told.WriteByte('\n')
		case xml.EndElement:
			flush()
			depth--
			fmt.Fprintf(&told, "end %s\n", name(token.Name))
		}
	}
}
