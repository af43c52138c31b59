package soap_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"callbackd/internal/soap"
)

// rule is one rule of XML 1.0 (fifth edition) or of Namespaces in XML 1.0 (third edition), shown by one document.
type rule struct {
	name     string
	document string
	refusal  string // part of the message, or "" where the document is accepted
	stricter string // why we refuse what xmllint takes, or ""
}

func check(t *testing.T, rules []rule) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			err := read([]byte(r.document), "")
			if r.refusal == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, soap.ErrMalformed) {
				t.Fatalf("got %v, want %v", err, soap.ErrMalformed)
			}
			if !strings.Contains(err.Error(), r.refusal) {
				t.Fatalf("got %q, want %q in it", err, r.refusal)
			}
		})
	}
}

// allRules are the rules of every family below; the oracle compares each with xmllint.
func allRules() map[string][]rule {
	return map[string][]rule{
		"structure": structureRules(), "names": nameRules(), "attributes": attributeRules(), "characters": characterRules(),
		"references": referenceRules(), "comments": commentRules(), "declaration": declarationRules(), "namespaces": namespaceRules(),
	}
}

func TestStructure(t *testing.T)   { t.Parallel(); check(t, structureRules()) }
func TestNames(t *testing.T)       { t.Parallel(); check(t, nameRules()) }
func TestAttributes(t *testing.T)  { t.Parallel(); check(t, attributeRules()) }
func TestCharacters(t *testing.T)  { t.Parallel(); check(t, characterRules()) }
func TestReferences(t *testing.T)  { t.Parallel(); check(t, referenceRules()) }
func TestComments(t *testing.T)    { t.Parallel(); check(t, commentRules()) }
func TestDeclaration(t *testing.T) { t.Parallel(); check(t, declarationRules()) }
func TestNamespaces(t *testing.T)  { t.Parallel(); check(t, namespaceRules()) }

func structureRules() []rule {
	return []rule{
		{"one element", `<a/>`, "", ""},
		{"white space, comments and PIs around the root", "\n<!--c--> <?p i?>\n<a/>\n<?p?> <!--c-->\n", "", ""},
		{"elements nest", `<a><b><c></c></b></a>`, "", ""},
		{"white space within an end tag", "<a></a \t\r\n>", "", ""},
		{"nothing", "", "the document has no element", ""},
		{"white space alone", " \n", "the document has no element", ""},
		{"a comment alone", "<!--c-->", "the document has no element", ""},
		{"text before the root", "x<a/>", "text before the first element", ""},
		{"text after the root", "<a/>x", "text after the last element", ""},
		{"a reference after the root", "<a/>&#32;", "text after the last element", ""},
		{"NUL after the root", "<a/>\x00", "text after the last element", "xmllint stops reading at NUL"},
		{"a second root", "<a/><b/>", "a second element after the root", ""},
		{"a second root unclosed", "<a/><b", "a second element after the root", ""},
		{"a tag unterminated after the root", "<a/><", "the document ends within a tag", ""},
		{"a comment unterminated after the root", "<a/><!--", "the document ends within a comment", ""},
		{"CDATA after the root", "<a/><![CDATA[x]]>", "a declaration other than a comment", ""},
		{"CDATA before the root", "<![CDATA[x]]><a/>", "a declaration other than a comment", ""},
		{"an end tag after the root", "<a/></a>", "an end tag without a start tag", ""},
		{"an end tag alone", "</a>", "an end tag without a start tag", ""},
		{"an element unclosed", "<a><b></b>", "the document ends before </a>", ""},
		{"text unclosed", "<a>x", "the document ends before </a>", ""},
		{"elements overlap", "<a><b></a></b>", "expected </b>", ""},
		{"an end tag in another case", "<a></A>", "expected </a>", ""},
		{"an end tag that is longer", "<a></ab>", "expected </a>", ""},
		{"an end tag that is shorter", "<ab></a>", "expected </ab>", ""},
		{"an end tag with another prefix of the same namespace", `<p:a xmlns:p="u" xmlns:q="u"></q:a>`, "expected </p:a>", ""},
		{"an end tag with an attribute", `<a></a b="c">`, "expected </a>", ""},
		{"white space before an end tag's name", "<a></ a>", "expected </a>", ""},
		{"an end tag unterminated", "<a></a", "expected </a>", ""},
		{"an end tag without a name", "<a></>", "expected </a>", ""},
		{"a start tag unterminated", "<a", "the document ends within a start tag", ""},
		{"a start tag unterminated after white space", "<a ", "the document ends within a start tag", ""},
		{"a start tag within a start tag", "<a<b/></a>", "white space is missing before an attribute", ""},
		{"an empty-element tag unterminated", "<a/", "'/' within a start tag", ""},
		{"white space within />", "<a/ >", "'/' within a start tag", ""},
		{"< at the end", "<", "the document ends within a tag", ""},
		{"DOCTYPE", "<!DOCTYPE a><a/>", "a document type declaration is not accepted in a SOAP message", "no DTD is read"},
		{"DOCTYPE with an internal subset", `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, "a document type declaration is not accepted", "no DTD is read"},
		{"DOCTYPE with an external subset", `<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>`, "a document type declaration is not accepted", "no DTD is read"},
		{"DOCTYPE within an element", "<a><!DOCTYPE a></a>", "a document type declaration is not accepted", ""},
		{"DOCTYPE after the root", "<a/><!DOCTYPE a>", "a document type declaration is not accepted", ""},
		{"DOCTYPE in lower case", "<!doctype a><a/>", "a declaration other than a comment", ""},
		{"an ELEMENT declaration", "<a><!ELEMENT a ANY></a>", "a declaration other than a comment", ""},
		{"<! alone", "<a><!", "a declaration other than a comment", ""},
	}
}

func nameRules() []rule {
	rules := []rule{
		{"letters, digits, dots, hyphens, underscores", "<_a-1.b/>", "", ""},
		{"a letter beyond ASCII", "<é/>", "", ""},
		{"a name character beyond ASCII", "<a·\u0301‿/>", "", ""},
		{"a letter that only the fifth edition has", "<\u0220/>", "", ""},
		{"a letter beyond the BMP", "<\U00010000/>", "", ""},
		{"no name", "<>", "a name is missing or malformed", ""},
		{"white space before the name", "< a/>", "a name is missing or malformed", ""},
		{"a digit at the beginning", "<1a/>", "a name is missing or malformed", ""},
		{"a hyphen at the beginning", "<-a/>", "a name is missing or malformed", ""},
		{"a dot at the beginning", "<.a/>", "a name is missing or malformed", ""},
		{"a middle dot at the beginning", "<·a/>", "a name is missing or malformed", ""},
		{"the multiplication sign is no letter", "<a×/>", "white space is missing", ""},
		{"the division sign is no letter", "<÷/>", "a name is missing or malformed", ""},
		{"the Greek question mark is no letter", "<\u037e/>", "a name is missing or malformed", ""},
		{"a private character is no letter", "<\ue000/>", "a name is missing or malformed", ""},
		{"a plane 15 character is no letter", "<\U000f0000/>", "a name is missing or malformed", ""},
		{"a no-break space is no white space", "<a\u00a0b='c'/>", "white space is missing", ""},
		{"a colon at the beginning", "<:a/>", "a name is missing or malformed", ""},
		{"a colon at the end", "<p:/>", "a name is missing or malformed", ""},
		{"two colons", `<p:a:b xmlns:p="u"/>`, "a name is missing or malformed", ""},
		{"a digit after the colon", `<p:1 xmlns:p="u"/>`, "a name is missing or malformed", ""},
		{"an attribute's colon at the beginning", `<a :b=""/>`, "a name is missing or malformed", ""},
		{"an attribute's two colons", `<a xmlns:p="u" p:b:c=""/>`, "a name is missing or malformed", ""},
	}
	// Each end of the ranges of NameStartChar and of what NameChar adds to them (productions 4 and 4a), and the characters beyond it.
	starts := [][2]rune{
		{'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x2ff}, {0x370, 0x37d}, {0x37f, 0x1fff}, {0x200c, 0x200d},
		{0x2070, 0x218f}, {0x2c00, 0x2fef}, {0x3001, 0xd7ff}, {0xf900, 0xfdcf}, {0xfdf0, 0xfffd}, {0x10000, 0xeffff},
	}
	continues := [][2]rune{{'-', '-'}, {'.', '.'}, {'0', '9'}, {0xb7, 0xb7}, {0x300, 0x36f}, {0x203f, 0x2040}}
	within := func(ranges [][2]rune, r rune) bool {
		return slices.ContainsFunc(ranges, func(ends [2]rune) bool { return r >= ends[0] && r <= ends[1] })
	}
	for _, ends := range slices.Concat(starts, continues) {
		for _, r := range []rune{ends[0] - 1, ends[0], ends[1], ends[1] + 1} {
			if !utf8.ValidRune(r) || r == ':' || r == '/' || r == 0xffff || r == 0xfffe {
				continue // no character, or one that ends a name
			}
			first := rule{name: fmt.Sprintf("U+%04X at the beginning", r), document: "<" + string(r) + "/>"}
			later := rule{name: fmt.Sprintf("U+%04X in a name", r), document: "<a" + string(r) + "/>"}
			if !within(starts, r) {
				first.refusal = "a name is missing or malformed"
				if !within(continues, r) {
					later.refusal = "white space is missing before an attribute"
				}
			}
			rules = append(rules, first, later)
		}
	}
	return rules
}

func attributeRules() []rule {
	return []rule{
		{"both quotes", `<a b="'" c='"'/>`, "", ""},
		{"white space around =", "<a b\t=\r\n'c'/>", "", ""},
		{"> in a value", `<a b=">"/>`, "", ""},
		{"]]> in a value", `<a b="]]>"/>`, "", ""},
		{"the same local name in two namespaces", `<a xmlns:p="u" xmlns:q="v" p:b="" q:b="" b=""/>`, "", ""},
		{"a default namespace is not an attribute's", `<a xmlns="u" xmlns:p="u" p:b="" b=""/>`, "", ""},
		{"twice", `<a b="" b=""/>`, `attribute "b" stands twice`, ""},
		{"twice with another between", `<a b="" c="" b=""/>`, `attribute "b" stands twice`, ""},
		{"twice with a prefix", `<a xmlns:p="u" p:b="" p:b=""/>`, `attribute "b" stands twice`, ""},
		{"twice after namespace expansion", `<a xmlns:p="u" xmlns:q="u" p:b="" q:b=""/>`, `attribute "b" stands twice`, ""},
		{"twice after expansion of a namespace written in two ways", `<a xmlns:p="u" xmlns:q="&#117;" p:b="" q:b=""/>`, `attribute "b" stands twice`, ""},
		{"xml:lang twice", `<a xml:lang="" xml:lang=""/>`, `attribute "lang" stands twice`, ""},
		{"< in a value", `<a b="<"/>`, "'<' within an attribute value", ""},
		{"a value without quotes", `<a b=c/>`, "an attribute value must be quoted", ""},
		{"no value", `<a b/>`, `attribute "b" has no value`, ""},
		{"no value after =", `<a b=/>`, "an attribute value must be quoted", ""},
		{"no name", `<a ="b"/>`, "a name is missing or malformed", ""},
		{"no white space between", `<a b=""c=""/>`, "white space is missing before an attribute", ""},
		{"a value unterminated", `<a b="c/>`, "the document ends within an attribute value", ""},
		{"a value that ends in the other quote", `<a b="c'/>`, "the document ends within an attribute value", ""},
		{"the end after a name", `<a b`, "has no value", ""},
		{"the end after =", `<a b=`, "an attribute value must be quoted", ""},
		{"the end after a value", `<a b=""`, "the document ends within a start tag", ""},
		{"characters next to the forbidden ones in a value", "<a b='\uf000\ufeff\ufffd]'/>", "", ""},
		{"NUL in a value", "<a b='\x00'/>", "character U+0000 is not allowed in XML", ""},
		{"a bare & in a value", `<a b="&"/>`, "'&' that begins no reference", ""},
		{"an unknown entity in a value", `<a b="&nbsp;"/>`, "an entity other than the predefined five", ""},
	}
}

func characterRules() []rule {
	rules := []rule{
		{"tab, line feed, carriage return", "<a>\t\n\r</a>", "", ""},
		{"DEL and the C1 controls", "<a>\x7f\u0080\u009f</a>", "", ""},
		{"both ends of the ranges", "<a> \ud7ff\ue000\ufffd\U00010000\U0010ffff</a>", "", ""},
		{"the replacement character", "<a>\ufffd</a>", "", ""},
		{"a byte order mark within text", "<a>\ufeff</a>", "", ""},
		{"a noncharacter that XML allows", "<a>\ufdd0\U0001ffff</a>", "", ""},
		{"U+FFFE in text", "<a>\ufffe</a>", "character U+FFFE is not allowed in XML", ""},
		{"U+FFFF in text", "<a>\uffff</a>", "character U+FFFF is not allowed in XML", ""},
		{"U+FFFE in an attribute", "<a b='\ufffe'/>", "character U+FFFE is not allowed in XML", ""},
		{"U+FFFF in a comment", "<a><!--\uffff--></a>", "character U+FFFF is not allowed in XML", ""},
		{"U+FFFF in a PI", "<a><?p \uffff?></a>", "character U+FFFF is not allowed in XML", ""},
		{"U+FFFF in CDATA", "<a><![CDATA[\uffff]]></a>", "character U+FFFF is not allowed in XML", ""},
		{"NUL in a comment", "<a><!--\x00--></a>", "character U+0000 is not allowed in XML", ""},
		{"escape in a PI", "<a><?p \x1b?></a>", "character U+001B is not allowed in XML", ""},
		{"form feed in CDATA", "<a><![CDATA[\f]]></a>", "character U+000C is not allowed in XML", ""},
		{"form feed as white space in a tag", "<a\f/>", "white space is missing before an attribute", ""},
		{"]] in text", "<a>]] ]>]</a>", "", ""},
		{"]]> in text", "<a>]]></a>", "]]> within text", ""},
		{"]]]> in text", "<a>]]]></a>", "]]> within text", ""},
		{"]]&gt; in text", "<a>]]&gt;</a>", "", ""},
		{"] at the end of text", "<a>]]<b/>></a>", "", ""},
		{"CDATA", "<a><![CDATA[<b>&c;]]]]><![CDATA[>]]></a>", "", ""},
		{"CDATA empty", "<a><![CDATA[]]></a>", "", ""},
		{"CDATA unterminated", "<a><![CDATA[]]</a>", "the document ends within a CDATA section", ""},
		{"CDATA in lower case", "<a><![cdata[]]></a>", "a declaration other than a comment", ""},
	}
	for c := byte(0); c < ' '; c++ {
		if c != '\t' && c != '\n' && c != '\r' {
			rules = append(rules, rule{"control " + string('0'+c/10) + string('0'+c%10) + " in text", "<a>" + string(rune(c)) + "</a>", "is not allowed in XML", ""})
		}
	}
	return rules
}

func referenceRules() []rule {
	const bad, entity, bare = "a character reference to no character", "an entity other than the predefined five", "'&' that begins no reference"
	return []rule{
		{"the predefined five", "<a b='&lt;&gt;&amp;&quot;&apos;'>&lt;&gt;&amp;&quot;&apos;</a>", "", ""},
		{"decimal and both cases of hexadecimal", "<a>&#65;&#x4a;&#x4A;&#x10ffff;</a>", "", ""},
		{"leading zeros", "<a>&#0065;&#x" + strings.Repeat("0", 5000) + "41;</a>", "", ""},
		{"the white space characters", "<a b='&#9;&#10;&#13;&#32;'>&#x9;&#xA;&#xD;&#x20;</a>", "", ""},
		{"both ends of the ranges", "<a>&#xD7FF;&#xE000;&#xFFFD;&#x10000;</a>", "", ""},
		{"character 0", "<a>&#0;</a>", bad, ""},
		{"character 0 in hexadecimal", "<a>&#x0;</a>", bad, ""},
		{"a control", "<a>&#8;</a>", bad, ""},
		{"the first surrogate", "<a>&#xD800;</a>", bad, ""},
		{"the last surrogate", "<a>&#57343;</a>", bad, ""},
		{"a pair of surrogates", "<a>&#xD83D;&#xDE00;</a>", bad, ""},
		{"U+FFFE", "<a>&#xFFFE;</a>", bad, ""},
		{"U+FFFF", "<a>&#65535;</a>", bad, ""},
		{"past the last character", "<a>&#x110000;</a>", bad, ""},
		{"2^32 + 65", "<a>&#4294967361;</a>", bad, ""},
		{"2^64 + 65", "<a>&#18446744073709551681;</a>", bad, ""},
		{"2^64 + 65 in hexadecimal", "<a>&#x10000000000000041;</a>", bad, ""},
		{"no digits", "<a>&#;</a>", bad, ""},
		{"no hexadecimal digits", "<a>&#x;</a>", bad, ""},
		{"hexadecimal digits in a decimal", "<a>&#4A;</a>", bad, ""},
		{"X in upper case", "<a>&#X41;</a>", bad, ""},
		{"a sign", "<a>&#+65;</a>", bad, ""},
		{"digits that are not ASCII", "<a>&#٦٥;</a>", bad, ""},
		{"white space within", "<a>&#65 ;</a>", bad, ""},
		{"no semicolon", "<a>&#65</a>", bare, ""},
		{"an entity of HTML", "<a>&nbsp;</a>", entity, ""},
		{"a predefined one in upper case", "<a>&LT;</a>", entity, ""},
		{"a predefined one with more letters", "<a>&ampx;</a>", entity, ""},
		{"an entity beyond ASCII", "<a>&é;</a>", entity, ""},
		{"a blank within an entity", "<a>&b c;</a>", bare, ""},
		{"a digit at the beginning of an entity", "<a>&1a;</a>", bare, ""},
		{"no semicolon after an entity", "<a>&amp</a>", bare, ""},
		{"& and a blank", "<a>& ;</a>", bare, ""},
		{"& and a semicolon", "<a>&;</a>", bare, ""},
		{"& alone", "<a>&</a>", bare, ""},
		{"& at the end of the document", "<a>&", bare, ""},
		{"a parameter entity is text", "<a>%b;</a>", "", ""},
		{"a reference in CDATA is text", "<a><![CDATA[&b;&#0;]]></a>", "", ""},
	}
}

func commentRules() []rule {
	return []rule{
		{"a comment", "<a><!-- <b> & - ]]> --></a>", "", ""},
		{"empty", "<a><!----></a>", "", ""},
		{"-- within", "<a><!-- -- --></a>", "-- within a comment", ""},
		{"---> at the end", "<a><!-- ---></a>", "-- within a comment", ""},
		{"<!-->", "<a><!--></a>", "the document ends within a comment", ""},
		{"<!--->", "<a><!---></a>", "the document ends within a comment", ""},
		{"unterminated", "<a><!-- -></a>", "the document ends within a comment", ""},
		{"<!-", "<a><!- --></a>", "a declaration other than a comment", ""},
		{"within a tag", "<a <!-- --> />", "a name is missing or malformed", ""},
		{"a PI", "<a><?p <b> & -- ]]> ? > ?></a>", "", ""},
		{"a PI without content", "<a><?p?></a>", "", ""},
		{"a PI with a blank", "<a><?p ?></a>", "", ""},
		{"a PI whose name begins with xml", "<?xml-stylesheet href='a'?><a/>", "", ""},
		{"a PI without a name", "<a><? ?></a>", "a name is missing or malformed", ""},
		{"a PI without white space after the name", "<a><?p+?></a>", "white space is missing", ""},
		{"a PI with ? after the name", "<a><?p??></a>", "white space is missing", ""},
		{"a PI unterminated", "<a><?p ></a>", "the document ends within a processing instruction", ""},
		{"a PI unterminated in its name", "<a><?p", "the document ends within a processing instruction", ""},
		{"the PI xml within an element", "<a><?xml version='1.0'?></a>", "an XML declaration that does not begin the document", ""},
		{"the PI XML", "<a><?XML ?></a>", "an XML declaration that does not begin the document", ""},
		{"the PI xMl", "<a><?xMl ?></a>", "an XML declaration that does not begin the document", ""},
		{"a colon in a PI's name", "<a><?p:q ?></a>", "a processing instruction's name has a colon", ""},
	}
}

func declarationRules() []rule {
	const form = "unexpected text in the XML declaration"
	return []rule{
		{"version", `<?xml version="1.0"?><a/>`, "", ""},
		{"version and encoding", `<?xml version='1.0' encoding='UTF-8'?><a/>`, "", ""},
		{"version and standalone", `<?xml version="1.0" standalone="yes"?><a/>`, "", ""},
		{"all three, with white space", "<?xml\tversion = \"1.0\"\r\nencoding\n=\n'utf-8' standalone='no' ?><a/>", "", ""},
		{"none", `<a/>`, "", ""},
		{"after white space", ` <?xml version="1.0"?><a/>`, "an XML declaration that does not begin the document", ""},
		{"after a comment", `<!----><?xml version="1.0"?><a/>`, "an XML declaration that does not begin the document", ""},
		{"twice", `<?xml version="1.0"?><?xml version="1.0"?><a/>`, "an XML declaration that does not begin the document", ""},
		{"after the root", `<a/><?xml version="1.0"?>`, "an XML declaration that does not begin the document", ""},
		{"in upper case", `<?XML version="1.0"?><a/>`, "an XML declaration without a version, or not in lower case", ""},
		{"empty", `<?xml?><a/>`, "an XML declaration without a version, or not in lower case", ""},
		{"cut short", `<?xml`, "an XML declaration without a version", ""},
		{"cut short after a blank", `<?xml `, "must begin with its version", ""},
		{"blank", `<?xml ?><a/>`, "must begin with its version", ""},
		{"without version", `<?xml encoding="utf-8"?><a/>`, "must begin with its version", ""},
		{"encoding before version", `<?xml encoding="utf-8" version="1.0"?><a/>`, "must begin with its version", ""},
		{"standalone before encoding", `<?xml version="1.0" standalone="yes" encoding="utf-8"?><a/>`, form, ""},
		{"version twice", `<?xml version="1.0" version="1.0"?><a/>`, form, ""},
		{"version 1.1", `<?xml version="1.1"?><a/>`, "is not 1.0, the one that is read", "other versions have other characters and line ends"},
		{"version 2.0", `<?xml version="2.0"?><a/>`, "is not 1.0", ""},
		{"version empty", `<?xml version=""?><a/>`, "version of the XML declaration is empty", ""},
		{"version with a blank", `<?xml version=" 1.0"?><a/>`, "is not 1.0", ""},
		{"version with a reference", `<?xml version="1&#46;0"?><a/>`, "is not 1.0", ""},
		{"version without quotes", `<?xml version=1.0?><a/>`, "must be quoted", ""},
		{"version without a value", `<?xml version?><a/>`, "version of the XML declaration has no value", ""},
		{"version unterminated", `<?xml version="1.0?><a/>`, "is empty, or does not end", ""},
		{"encoding empty", `<?xml version="1.0" encoding=""?><a/>`, "encoding of the XML declaration is empty", ""},
		{"standalone after the end", `<?xml version="1.0"?standalone="yes"?><a/>`, form, ""},
		{"encoding with a blank", `<?xml version="1.0" encoding=" utf-8"?><a/>`, "not the name of an encoding", ""},
		{"standalone with a reference", `<?xml version="1.0" standalone="ye&#115;"?><a/>`, "must be yes or no", ""},
		{"standalone in upper case", `<?xml version="1.0" standalone="YES"?><a/>`, "must be yes or no", ""},
		{"standalone true", `<?xml version="1.0" standalone="true"?><a/>`, "must be yes or no", ""},
		{"no white space between", `<?xml version="1.0"encoding="utf-8"?><a/>`, form, ""},
		{"something else", `<?xml version="1.0" lang="en"?><a/>`, form, ""},
		{"ends in >", `<?xml version="1.0"><a/>`, form, ""},
		{"unterminated", `<?xml version="1.0"`, form, ""},
	}
}

func namespaceRules() []rule {
	const xmlNS, xmlnsNS = "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"
	return []rule{
		{"a prefix declared on the element", `<p:a xmlns:p="u"/>`, "", ""},
		{"a prefix declared after its use in the tag", `<a p:b="" xmlns:p="u"/>`, "", ""},
		{"a prefix declared above", `<a xmlns:p="u"><p:b p:c=""/></a>`, "", ""},
		{"a prefix declared again below", `<p:a xmlns:p="u"><p:b xmlns:p="v"/><p:c/></p:a>`, "", ""},
		{"a default namespace undeclared", `<a xmlns="u"><b xmlns=""/></a>`, "", ""},
		{"xml needs no declaration", `<a xml:lang="en" xml:space="preserve"/>`, "", ""},
		{"xml declared as itself", `<a xmlns:xml="` + xmlNS + `"/>`, "", ""},
		{"a prefix that begins with xml", `<xmlfoo:a xmlns:xmlfoo="u"/>`, "", ""},
		{"an undeclared prefix on an element", `<p:a/>`, `namespace prefix "p" is not declared`, ""},
		{"an undeclared prefix on an attribute", `<a p:b=""/>`, `namespace prefix "p" is not declared`, ""},
		{"a prefix declared beside it", `<a><b xmlns:p="u"/><p:c/></a>`, `namespace prefix "p" is not declared`, ""},
		{"a prefix declared below it", `<p:a><b xmlns:p="u"/></p:a>`, `namespace prefix "p" is not declared`, ""},
		{"a prefix in another case", `<P:a xmlns:p="u"/>`, `namespace prefix "P" is not declared`, ""},
		{"xmlns as an element's prefix", `<xmlns:a/>`, `namespace prefix "xmlns" is not declared`, ""},
		{"a prefix undeclared", `<a xmlns:p=""/>`, `namespace prefix "p" cannot be undeclared`, ""},
		{"a prefix undeclared below", `<a xmlns:p="u"><b xmlns:p=""/></a>`, `namespace prefix "p" cannot be undeclared`, ""},
		{"xml declared as something else", `<a xmlns:xml="u"/>`, "prefix xml and its namespace belong together", ""},
		{"another prefix for xml's namespace", `<a xmlns:p="` + xmlNS + `"/>`, "prefix xml and its namespace belong together", ""},
		{"xml's namespace as the default", `<a xmlns="` + xmlNS + `"/>`, "prefix xml and its namespace belong together", ""},
		{"xml's namespace written with a reference", `<a xmlns:p="` + strings.Replace(xmlNS, "h", "&#104;", 1) + `"/>`, "prefix xml and its namespace belong together", ""},
		{"xmlns declared", `<a xmlns:xmlns="u"/>`, "xmlns cannot be declared", ""},
		{"xmlns declared as itself", `<a xmlns:xmlns="` + xmlnsNS + `"/>`, "xmlns cannot be declared", ""},
		{"another prefix for xmlns's namespace", `<a xmlns:p="` + xmlnsNS + `"/>`, "xmlns cannot be declared", ""},
		{"xmlns's namespace as the default", `<a xmlns="` + xmlnsNS + `"/>`, "xmlns cannot be declared", ""},
		{"a prefix declared twice", `<a xmlns:p="u" xmlns:p="v"/>`, `namespace prefix "p" is declared twice`, ""},
		{"the default declared twice", `<a xmlns="u" xmlns="u"/>`, `namespace prefix "" is declared twice`, ""},
		{"xmlns: without a prefix", `<a xmlns:="u"/>`, "a name is missing or malformed", ""},
		{"an empty namespace name by reference is still a name", `<a xmlns:p="&#32;"><p:b/></a>`, "", ""},
	}
}
