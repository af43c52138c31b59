package soap_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"callbackd/internal/soap"
)

func TestErrorsTellLineColumnAndPath(t *testing.T) {
	t.Parallel()
	const envelope = "<s:Envelope xmlns:s='" + soap.Namespace11 + "'>\n"
	for _, c := range []struct {
		name, document string
		line, column   int
		path           string
	}{
		{"at the beginning", "x", 1, 1, ""},
		{"before the root", "\n\n <!DOCTYPE a>", 3, 2, ""},
		{"within the declaration", "<?xml version='1.0'\n standalone='x'?><a/>", 2, 14, ""},
		{"the version of the declaration", "<?xml version='1.1'?><a/>", 1, 16, ""},
		{"a character of text", "<a>\n<b>é\x01</b></a>", 2, 5, "/a/b"},
		{"a reference", "<a>\n<b>é€\U0001f600 &#0;</b></a>", 2, 8, "/a/b"},
		{"a name", "<a>\n <1/></a>", 2, 3, "/a"},
		{"an attribute has its element in the path", "<a>\n<b c='d'\n e='<'/></a>", 3, 5, "/a/b"},
		{"an attribute that stands twice", "<a\n b=''\n b=''/>", 3, 2, "/a"},
		{"an attribute's prefix", "<a\n b:c=''/>", 2, 2, "/a"},
		{"an element's prefix", "<a>\n <p:b/></a>", 2, 3, "/a/b"},
		{"a declaration of a namespace", "<a\n xmlns:p=''/>", 2, 2, "/a"},
		{"another end tag", "<a>\n<b>\n</c>", 3, 3, "/a/b"},
		{"a longer end tag", "<a>\n<b>\n</bc>", 3, 3, "/a/b"},
		{"after the root", "<a/>\n <b/>", 2, 2, ""},
		{"the end", "<a>\n<b>\n", 3, 1, "/a/b"},
		{"an unterminated comment is told at its beginning", "<a>\n <!-- \n\n", 2, 2, "/a"},
		{"-- within a comment", "<a>\n<!-- -- -->", 2, 6, "/a"},
		{"]]> within text", "<a>\n x]]></a>", 2, 3, "/a"},
		{"an unterminated attribute is told at its quote", "<a b=\n 'x\n\n", 2, 2, "/a"},
		{"a prefix is not in the path", "<p:a xmlns:p='u'><p:b>&x;", 1, 23, "/a/b"},
		{"a second Header", envelope + "<s:Header/>\n <s:Header/>", 3, 2, "/Envelope/Header"},
		{"a block that is not understood", envelope + "<s:Header>\n<h s:mustUnderstand='1'/></s:Header>", 3, 1, "/Envelope/Header/h"},
		{"a foreign child of Envelope", envelope + "<x/>", 2, 1, "/Envelope/x"},
		{"an empty Body", envelope + "<s:Body></s:Body></s:Envelope>", 2, 9, "/Envelope"},
		{"text in Body", envelope + "<s:Body>\nx", 2, 9, "/Envelope/Body"},
		{"a second payload", envelope + "<s:Body><a/>\n<b/>", 3, 1, "/Envelope/Body/b"},
		{"another envelope", "\n<Envelope/>", 2, 1, "/Envelope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The place is the same however the document is encoded, and however its lines end.
			for name, raw := range map[string][]byte{
				"UTF-8":           []byte(c.document),
				"UTF-8 with mark": []byte("\ufeff" + c.document),
				"UTF-16":          utf16Of("\ufeff"+c.document, binary.BigEndian),
				"CRLF":            []byte(strings.ReplaceAll(c.document, "\n", "\r\n")),
				"CR":              []byte(strings.ReplaceAll(c.document, "\n", "\r")),
				"CR in UTF-16":    utf16Of("\ufeff"+strings.ReplaceAll(c.document, "\n", "\r"), binary.LittleEndian),
			} {
				var e *soap.Error
				if err := readMessage(raw); !errors.As(err, &e) {
					t.Fatalf("%s: got %v, want an Error", name, err)
				}
				if e.Line != c.line || e.Column != c.column || e.Path != c.path {
					t.Errorf("%s: line %d, column %d, path %q; want %d, %d, %q: %v", name, e.Line, e.Column, e.Path, c.line, c.column, c.path, e)
				}
			}
		})
	}
}

// readMessage reads a message as a receiver does: envelope, payload, end.
func readMessage(raw []byte) error {
	document, _, err := soap.Decode(raw, "", soap.Limits{})
	if err != nil {
		return err
	}
	_, err = openAndClose(document)
	return err
}

func TestErrorsAreBoundedAndWhole(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 400)
	deep := strings.Repeat("<"+long+">", 60)
	for name, document := range map[string]string{
		"an end tag":       "<" + long + "></b>",
		"an attribute":     "<a " + long + "/>",
		"a prefix":         "<" + long + ":a/>",
		"a namespace":      "<Envelope xmlns='" + strings.Repeat(long, 100) + "'/>",
		"a header block":   "<Envelope xmlns='" + soap.Namespace12 + "'><Header><" + long + " xmlns:s='" + soap.Namespace12 + "' s:mustUnderstand='1'/>",
		"a deep path":      deep + "&",
		"an entity":        "<a>&" + long + ";</a>",
		"text in Body":     "<Envelope xmlns='" + soap.Namespace12 + "'><Body>" + long,
		"a declared label": "<?xml version='1.0' encoding='" + long + "'?><a/>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := readMessage([]byte(document))
			if err == nil {
				t.Fatal("not refused")
			}
			if text := err.Error(); len(text) > 1200 || !utf8.ValidString(text) {
				t.Errorf("%d bytes, valid: %v: %s", len(text), utf8.ValidString(text), text)
			}
		})
	}
}

// TestErrorsDoNotQuoteContent puts a secret where a value may stand: no refusal may tell it.
func TestErrorsDoNotQuoteContent(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for name, document := range map[string]string{
		"text before a stray &":      "<a>" + secret + "& </a>",
		"an entity's name":           "<a>x&" + secret + ";</a>",
		"a character reference":      "<a>&#" + secret + ";</a>",
		"text before ]]>":            "<a>" + secret + "]]></a>",
		"text before a control":      "<a>" + secret + "\x01</a>",
		"text before invalid UTF-8":  "<a>" + secret + "\x80</a>",
		"text before the end":        "<a>" + secret,
		"an attribute value":         "<a b='" + secret + "<'/>",
		"an attribute that repeats":  "<a b='" + secret + "' b='" + secret + "'/>",
		"an attribute without quote": "<a b=" + secret + "/>",
		"CDATA":                      "<a><![CDATA[" + secret,
		"a comment":                  "<a><!--" + secret + "-- -->",
		"a processing instruction":   "<a><?p " + secret,
		"text after the root":        "<a/>" + secret,
		"text in Envelope":           "<Envelope xmlns='" + soap.Namespace11 + "'>" + secret + "</Envelope>",
		"text in Header":             "<Envelope xmlns='" + soap.Namespace11 + "'><Header>" + secret + "</Header></Envelope>",
		"text in Body":               "<Envelope xmlns='" + soap.Namespace11 + "'><Body>" + secret + "</Body></Envelope>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := readMessage([]byte(document))
			if err == nil {
				t.Fatal("not refused")
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the refusal quotes content: %v", err)
			}
		})
	}
}
