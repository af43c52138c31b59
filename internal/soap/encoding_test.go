package soap_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	declared := func(encoding, content string) string {
		return `<?xml version="1.0" encoding="` + encoding + `"?><a>` + content + `</a>`
	}
	utf16le := func(s string) string { return string(utf16Of(s, binary.LittleEndian)) }
	utf16be := func(s string) string { return string(utf16Of(s, binary.BigEndian)) }
	const bom = "\ufeff"
	for _, c := range []struct {
		name, raw, charset string
		encoding, document string // of an accepted one
		refusal            string // part of the message of a refused one
	}{
		{name: "UTF-8 by default", raw: "<a>é</a>", encoding: "utf-8", document: "<a>é</a>"},
		{name: "UTF-8 with a mark", raw: bom + "<a>é</a>", encoding: "utf-8", document: "<a>é</a>"},
		{name: "UTF-8 declared", raw: declared("utf-8", "é"), encoding: "utf-8", document: declared("utf-8", "é")},
		{name: "UTF-8 by charset in upper case", raw: "<a>é</a>", charset: "UTF-8", encoding: "utf-8", document: "<a>é</a>"},
		{name: "the label utf8", raw: declared("utf8", "é"), encoding: "utf-8", document: declared("utf8", "é")},
		{name: "nothing", raw: "", encoding: "utf-8", document: ""},
		{name: "a mark alone", raw: bom, encoding: "utf-8", document: ""},
		{name: "a second mark stays", raw: bom + bom + "<a/>", encoding: "utf-8", document: bom + "<a/>"},
		{name: "four bytes", raw: "<a>\U0010ffff</a>", encoding: "utf-8", document: "<a>\U0010ffff</a>"},
		{name: "a stray continuation byte", raw: "<a>\x80</a>", refusal: "line 1, column 4: byte 0x80 is not part of a UTF-8 character"},
		{name: "a character cut short", raw: "<a>\xc3</a>", refusal: "byte 0xc3"},
		{name: "a character cut short by the end", raw: "<a>\xe2\x82", refusal: "byte 0xe2"},
		{name: "an overlong slash", raw: "<a>\xc0\xaf</a>", refusal: "byte 0xc0"},
		{name: "an overlong NUL", raw: "<a>\xc0\x80</a>", refusal: "byte 0xc0"},
		{name: "an overlong in three bytes", raw: "<a>\xe0\x80\xaf</a>", refusal: "byte 0xe0"},
		{name: "an overlong in four bytes", raw: "<a>\xf0\x80\x80\xaf</a>", refusal: "byte 0xf0"},
		{name: "a surrogate", raw: "<a>\xed\xa0\x80</a>", refusal: "byte 0xed"},
		{name: "a pair of surrogates", raw: "<a>\xed\xa0\xbd\xed\xb8\x80</a>", refusal: "byte 0xed"},
		{name: "past the last character", raw: "<a>\xf4\x90\x80\x80</a>", refusal: "byte 0xf4"},
		{name: "five bytes", raw: "<a>\xf8\x88\x80\x80\x80</a>", refusal: "byte 0xf8"},
		{name: "0xff", raw: "<a>\xff</a>", refusal: "byte 0xff"},
		{name: "an invalid first byte", raw: "\x80<a/>", refusal: "line 1, column 1: byte 0x80"},

		{name: "UTF-16 in little endian", raw: utf16le(bom + "<a>é€\U0001f600</a>"), encoding: "utf-16le", document: "<a>é€\U0001f600</a>"},
		{name: "UTF-16 in big endian", raw: utf16be(bom + "<a>é€\U0001f600</a>"), encoding: "utf-16be", document: "<a>é€\U0001f600</a>"},
		{name: "UTF-16 declared", raw: utf16le(bom + declared("UTF-16", "é")), encoding: "utf-16le", document: declared("UTF-16", "é")},
		{name: "UTF-16 declared with its byte order", raw: utf16be(bom + declared("utf-16be", "é")), encoding: "utf-16be", document: declared("utf-16be", "é")},
		{name: "UTF-16 without a mark", raw: utf16le("<a/>"), refusal: "UTF-16 needs a byte order mark"},
		{name: "UTF-16 in big endian without a mark", raw: utf16be("<a/>"), charset: "utf-16be", refusal: "UTF-16 needs a byte order mark"},
		{name: "UTF-16 that ends within a unit", raw: utf16le(bom+"<a/>") + "\n", refusal: "UTF-16 ends within a character"},
		{name: "a high surrogate alone", raw: utf16le(bom+"<a>") + "\x3d\xd8" + utf16le("</a>"), refusal: "line 1, column 4: UTF-16 surrogate without its other half"},
		{name: "a high surrogate at the end", raw: utf16le(bom+"<a>") + "\x3d\xd8", refusal: "UTF-16 surrogate without"},
		{name: "a low surrogate alone", raw: utf16le(bom+"<a>") + "\x00\xde" + utf16le("</a>"), refusal: "UTF-16 surrogate without"},
		{name: "surrogates in the wrong order", raw: utf16be(bom+"<a>") + "\xde\x00\xd8\x3d", refusal: "UTF-16 surrogate without"},
		{name: "UTF-32 in little endian", raw: "\xff\xfe\x00\x00<\x00\x00\x00", refusal: "UTF-32 is not supported: send UTF-8"},
		{name: "UTF-32 in big endian", raw: "\x00\x00\xfe\xff\x00\x00\x00<", refusal: "UTF-32 is not supported"},

		{name: "ISO-8859-1 declared", raw: declared("ISO-8859-1", "\xe9\xff\x85"), encoding: "iso-8859-1", document: declared("ISO-8859-1", "éÿ\u0085")},
		{name: "ISO-8859-1 by charset", raw: "<a>\xe9</a>", charset: "latin1", encoding: "iso-8859-1", document: "<a>é</a>"},
		{name: "windows-1252 declared", raw: declared("windows-1252", "\x80\x93\xe9\x9f"), encoding: "windows-1252", document: declared("windows-1252", "€“éŸ")},
		{name: "windows-1252 by charset", raw: "<a>\x99</a>", charset: "cp1252", encoding: "windows-1252", document: "<a>™</a>"},
		{name: "windows-1252 from a0 on is ISO-8859-1", raw: "<a>\xa0\xff</a>", charset: "windows-1252", encoding: "windows-1252", document: "<a>\u00a0ÿ</a>"},
		{name: "windows-1252 byte 81", raw: declared("windows-1252", "\x81"), refusal: "byte 0x81 has no character in windows-1252"},
		{name: "windows-1252 byte 8d", raw: declared("windows-1252", "\x8d"), refusal: "byte 0x8d"},
		{name: "windows-1252 byte 8f", raw: declared("windows-1252", "\x8f"), refusal: "byte 0x8f"},
		{name: "windows-1252 byte 90", raw: declared("windows-1252", "\x90"), refusal: "byte 0x90"},
		{name: "windows-1252 byte 9d, with its place", raw: "<a>\xe9\n\xe9\x9d</a>", charset: "windows-1252", refusal: "line 2, column 2: byte 0x9d"},
		{name: "US-ASCII", raw: declared("US-ASCII", "&#233;"), encoding: "us-ascii", document: declared("US-ASCII", "&#233;")},
		{name: "US-ASCII with another byte", raw: declared("us-ascii", "\n\xc3\xa9"), refusal: "line 2, column 1: byte 0xc3 is not US-ASCII"},

		{name: "unknown and declared", raw: declared("Shift_JIS", ""), refusal: `encoding "Shift_JIS" of the XML declaration is not supported: send UTF-8`},
		{name: "unknown by charset", raw: "<a/>", charset: "x-user-defined", refusal: `encoding "x-user-defined" of the Content-Type is not supported`},
		{name: "EBCDIC", raw: declared("IBM037", ""), refusal: `encoding "IBM037"`},
		{name: "UTF-7", raw: declared("UTF-7", "+ADw-"), refusal: `encoding "UTF-7"`},
		{name: "ISO-8859-15, which is not ISO-8859-1", raw: declared("iso-8859-15", ""), refusal: `encoding "iso-8859-15"`},
		{name: "unknown with a long name", raw: declared(strings.Repeat("x", 1000), ""), refusal: strings.Repeat("x", 64) + `..."`},
		{name: "unknown with a name of junk", raw: declared(strings.Repeat("\x80", 1000), ""), refusal: `encoding "`},
		{name: "unknown, declared after much white space", raw: `<?xml version="1.0" ` + strings.Repeat(" ", 1000) + `encoding="Big5"?><a/>`, refusal: `encoding "Big5"`},
		{name: "declared with white space around =", raw: "<?xml version='1.0' encoding\t=\n'iso-8859-1' ?><a>\xe9</a>", encoding: "iso-8859-1", document: "<?xml version='1.0' encoding\t=\n'iso-8859-1' ?><a>é</a>"},
		{name: "an encoding of a stylesheet is not the document's", raw: `<?xml-stylesheet encoding="iso-8859-1"?><a>é</a>`, encoding: "utf-8", document: `<?xml-stylesheet encoding="iso-8859-1"?><a>é</a>`},
		{name: "an encoding of a later instruction is not the document's", raw: `<?xml version="1.0"?><?p encoding="iso-8859-1"?><a>é</a>`, encoding: "utf-8", document: `<?xml version="1.0"?><?p encoding="iso-8859-1"?><a>é</a>`},

		{name: "charset before declaration", raw: declared("utf-8", "\xe9"), charset: "iso-8859-1", encoding: "iso-8859-1", document: declared("utf-8", "é")},
		{name: "charset before an unknown declaration", raw: declared("Big5", "é"), charset: "utf-8", encoding: "utf-8", document: declared("Big5", "é")},
		{name: "charset before the utf-16 that .NET declares of its strings", raw: declared("utf-16", "é"), charset: "utf-8", encoding: "utf-8", document: declared("utf-16", "é")},
		{name: "utf-16 declared, and nothing of the kind", raw: declared("utf-16", ""), refusal: `the XML declaration says "utf-16", but there is no byte order mark`},
		{name: "utf-16 by charset, and nothing of the kind", raw: "<a/>", charset: "UTF-16LE", refusal: `the Content-Type says "UTF-16LE", but there is no byte order mark`},
		{name: "mark before charset", raw: bom + "<a>é</a>", charset: "iso-8859-1", encoding: "utf-8", document: "<a>é</a>"},
		{name: "mark before an unknown charset", raw: utf16le(bom + "<a>é</a>"), charset: "nonsense", encoding: "utf-16le", document: "<a>é</a>"},
		{name: "mark against declaration", raw: bom + declared("iso-8859-1", ""), refusal: `the byte order mark says utf-8, the XML declaration "iso-8859-1"`},
		{name: "mark and charset against declaration", raw: bom + declared("utf-16", "é"), charset: "utf-8", encoding: "utf-8", document: declared("utf-16", "é")},
		{name: "mark against declaration and charset", raw: bom + declared("iso-8859-1", ""), charset: "iso-8859-1", refusal: "the byte order mark says utf-8"},
		{name: "UTF-16 mark against declaration", raw: utf16le(bom + declared("utf-8", "")), refusal: `the byte order mark says utf-16le, the XML declaration "utf-8"`},
		{name: "UTF-16 mark and charset against declaration", raw: utf16le(bom + declared("utf-8", "é")), charset: "utf-16", encoding: "utf-16le", document: declared("utf-8", "é")},
		{name: "one byte order against the other", raw: utf16le(bom + declared("utf-16be", "")), refusal: `the byte order mark says utf-16le, the XML declaration "utf-16be"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			document, encoding, err := soap.Decode([]byte(c.raw), c.charset, soap.Limits{})
			if c.refusal != "" {
				if !errors.Is(err, soap.ErrEncoding) || !strings.Contains(err.Error(), c.refusal) {
					t.Fatalf("got %v, want %v with %q", err, soap.ErrEncoding, c.refusal)
				}
				return
			}
			if err != nil || document != c.document || encoding != c.encoding {
				t.Fatalf("got %q, %q, %v\nwant %q, %q", document, encoding, err, c.document, c.encoding)
			}
		})
	}
}

func TestDecodeLimitsBytes(t *testing.T) {
	t.Parallel()
	utf16 := func(s string) []byte { return utf16Of("\ufeff"+s, binary.LittleEndian) }
	for _, c := range []struct {
		name    string
		raw     []byte
		charset string
		needs   int // the lowest cap that admits it
	}{
		{"UTF-8", []byte("<a>é</a>"), "", 9},
		{"UTF-8 with a mark, which counts", []byte("\ufeff<a>é</a>"), "", 12},
		{"ISO-8859-1 grows", []byte("<a>\xe9\xe9\xe9</a>"), "iso-8859-1", 13},
		{"windows-1252 grows", []byte("<a>\x80\x80</a>"), "windows-1252", 13},
		{"UTF-16 grows", utf16("<日本語日本語日本語/>"), "", 30},
		{"UTF-16 shrinks", utf16("<abc/>"), "", 14},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for most := c.needs - 1; most <= c.needs+1; most++ {
				_, _, err := soap.Decode(slices.Clone(c.raw), c.charset, soap.Limits{Bytes: most})
				if most < c.needs && !errors.Is(err, soap.ErrLimit) {
					t.Errorf("at %d bytes: got %v, want %v", most, err, soap.ErrLimit)
				}
				if most >= c.needs && err != nil {
					t.Errorf("at %d bytes: %v", most, err)
				}
			}
		})
	}
}

func TestDecodeKeepsUTF8InPlace(t *testing.T) {
	raw := []byte(message(100))
	if n := testing.AllocsPerRun(10, func() {
		if _, _, err := soap.Decode(raw, "utf-8", soap.Limits{}); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for UTF-8, want none", n)
	}
}

// TestEncodingsReadTheSame sends one document in every encoding.
func TestEncodingsReadTheSame(t *testing.T) {
	t.Parallel()
	const content = `<a b="é">naïve ÿ<c/></a>`
	want := mustTake(t, content)
	latin1 := make([]byte, 0, len(content))
	for _, r := range content {
		latin1 = append(latin1, byte(r))
	}
	for _, c := range []struct {
		charset string
		raw     []byte
	}{
		{"utf-8", []byte(content)}, {"", []byte("\ufeff" + content)}, {"iso-8859-1", latin1}, {"windows-1252", latin1},
		{"", utf16Of("\ufeff"+content, binary.LittleEndian)}, {"utf-16", utf16Of("\ufeff"+content, binary.BigEndian)},
	} {
		document, encoding, err := soap.Decode(c.raw, c.charset, soap.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := mustTake(t, document); got != want {
			t.Errorf("%s: got\n%swant\n%s", encoding, got, want)
		}
	}
}

// TestNamesOfEncodings holds the names that a declaration may give against production 81; charset is there so that only the name is judged.
func TestNamesOfEncodings(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "z": true, "A": true, "Z": true, "a0": true, "a9": true, "a.": true, "a_": true, "a-": true, "aZ": true,
		"0": false, "9a": false, ".a": false, "_a": false, "-a": false, "@": false, "[": false, "`": false, "{": false,
		"a/": false, "a:": false, "a b": false, "a,": false, "é": false,
	} {
		err := read([]byte(`<?xml version="1.0" encoding="`+name+`"?><a/>`), "utf-8")
		if want && err != nil || !want && !errors.Is(err, soap.ErrMalformed) {
			t.Errorf("%q: got %v, want taken: %v", name, err, want)
		}
	}
}

func TestLabelsOfEncodings(t *testing.T) {
	t.Parallel()
	for encoding, labels := range map[string][]string{
		"utf-8":        {"utf-8", "UTF-8", "utf8", " utf-8 "},
		"us-ascii":     {"us-ascii", "US-ASCII", "ascii", "ANSI_X3.4-1968"},
		"iso-8859-1":   {"iso-8859-1", "ISO-8859-1", "ISO_8859-1", "iso8859-1", "latin1", "Latin-1", "l1"},
		"windows-1252": {"windows-1252", "Windows-1252", "windows1252", "cp1252", "x-cp1252"},
	} {
		for _, label := range labels {
			if _, got, err := soap.Decode([]byte("<a/>"), label, soap.Limits{}); err != nil || got != encoding {
				t.Errorf("%q: got %q, %v, want %q", label, got, err, encoding)
			}
		}
	}
}
