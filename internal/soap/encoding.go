package soap

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Decode returns the document in raw as one UTF-8 string without byte order mark, and the name of the encoding that it
// arrived in. charset is the charset parameter of the HTTP Content-Type, or empty; as RFC 7303 has it, a byte order mark
// goes before it, and it goes before the XML declaration. A declaration that contradicts the byte order mark is refused, as XML
// asks, unless charset sides with the mark.
//
// The document takes possession of raw: UTF-8 is not copied, so the caller MUST NOT change raw afterwards.
func Decode(raw []byte, charset string, limits Limits) (document, encoding string, err error) {
	limits = limits.WithDefaults()
	if len(raw) > limits.Bytes {
		return "", "", limitError(limits.Bytes, "bytes")
	}
	encoding, mark, err := detect(raw, charset)
	if err != nil {
		return "", "", err
	}
	document, err = transcode(raw[mark:], encoding, limits.Bytes)
	if err != nil {
		return "", "", err
	}
	if declared := declaredEncoding(document); mark > 0 && declared != "" && !labels(declared, encoding) && !labels(charset, encoding) {
		return "", "", encodingError("the byte order mark says %s, the XML declaration %s", encoding, quoteName(declared))
	}
	return document, encoding, nil
}

// detect names the encoding of raw and tells the length of its byte order mark.
func detect(raw []byte, charset string) (encoding string, mark int, err error) {
	switch {
	case hasPrefix(raw, "\xff\xfe\x00\x00"), hasPrefix(raw, "\x00\x00\xfe\xff"):
		return "", 0, encodingError("UTF-32 is not supported: send UTF-8")
	case hasPrefix(raw, "\xef\xbb\xbf"):
		return "utf-8", 3, nil
	case hasPrefix(raw, "\xff\xfe"):
		return "utf-16le", 2, nil
	case hasPrefix(raw, "\xfe\xff"):
		return "utf-16be", 2, nil
	case hasPrefix(raw, "<\x00"), hasPrefix(raw, "\x00<"):
		return "", 0, encodingError("UTF-16 needs a byte order mark")
	}
	label, from := charset, "Content-Type"
	if label == "" {
		label, from = declaredEncoding(view(raw)), "XML declaration"
	}
	switch name := canonical(label); name {
	case "":
		return "utf-8", 0, nil
	case "utf-8", "us-ascii", "iso-8859-1", "windows-1252":
		return name, 0, nil
	case "utf-16", "utf-16le", "utf-16be":
		return "", 0, encodingError("the %s says %s, but there is no byte order mark", from, quoteName(label))
	}
	return "", 0, encodingError("encoding %s of the %s is not supported: send UTF-8", quoteName(label), from)
}

// transcode turns a body without byte order mark into UTF-8, and refuses what is not in the encoding that it claims.
func transcode(body []byte, encoding string, most int) (string, error) {
	switch encoding {
	case "us-ascii":
		for i, c := range body {
			if c >= utf8.RuneSelf {
				return "", encodingErrorAt(view(body[:i]), "byte %#02x is not US-ASCII, the encoding it is labelled with", c)
			}
		}
	case "iso-8859-1", "windows-1252":
		return fromSingleByte(body, encoding == "windows-1252", most)
	case "utf-16le", "utf-16be":
		return fromUTF16(body, encoding == "utf-16be", most)
	}
	document := view(body)
	if i := invalidUTF8(document); i >= 0 {
		return "", encodingErrorAt(document[:i], "byte %#02x is not part of a UTF-8 character", document[i])
	}
	return document, nil
}

// view is b as a string, without a copy.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func hasPrefix(raw []byte, prefix string) bool {
	return len(raw) >= len(prefix) && string(raw[:len(prefix)]) == prefix
}

// canonical maps the labels of one encoding to one name.
func canonical(label string) string {
	switch name := strings.ToLower(strings.TrimSpace(label)); name {
	case "utf8":
		return "utf-8"
	case "ascii", "ansi_x3.4-1968":
		return "us-ascii"
	case "latin1", "latin-1", "l1", "iso8859-1", "iso_8859-1":
		return "iso-8859-1"
	case "cp1252", "windows1252", "x-cp1252":
		return "windows-1252"
	default:
		return name
	}
}

// labels reports whether label names encoding; utf-16 names both byte orders.
func labels(label, encoding string) bool {
	name := canonical(label)
	return name == encoding || name == "utf-16" && strings.HasPrefix(encoding, name)
}

// declaredEncoding finds the encoding of an XML declaration in a document whose encoding agrees with ASCII there. It is lenient: it
// reads every declaration that the scanner takes, and the scanner judges the others afterwards.
func declaredEncoding(document string) string {
	if !beginsDeclaration(document) {
		return ""
	}
	declaration, _, _ := strings.Cut(document, "?>")
	_, rest, found := strings.Cut(declaration, "encoding")
	if !found {
		return ""
	}
	rest = strings.TrimLeft(rest, whiteSpace+"=")
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	name, _, found := strings.Cut(rest[1:], rest[:1])
	if !found {
		return ""
	}
	return name
}

// windows1252 maps 0x80 to 0x9f; 0 marks the five bytes without a character.
var windows1252 = [32]rune{
	0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0,
	0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
}

func fromSingleByte(body []byte, cp1252 bool, most int) (string, error) {
	size := 0
	for i, c := range body {
		switch {
		case c < utf8.RuneSelf:
			size++
		case cp1252 && c < 0xa0:
			if windows1252[c-0x80] == 0 {
				return "", encodingErrorAt(ascii(body[:i]), "byte %#02x has no character in windows-1252", c)
			}
			size += utf8.RuneLen(windows1252[c-0x80])
		default:
			size += 2
		}
	}
	if size > most {
		return "", limitError(most, "bytes")
	}
	var b strings.Builder
	b.Grow(size)
	for _, c := range body {
		if cp1252 && c >= 0x80 && c < 0xa0 {
			b.WriteRune(windows1252[c-0x80])
			continue
		}
		b.WriteRune(rune(c))
	}
	return b.String(), nil
}

func fromUTF16(body []byte, bigEndian bool, most int) (string, error) {
	if len(body)%2 != 0 {
		return "", encodingError("UTF-16 ends within a character")
	}
	size := 0
	for i := 0; i < len(body); {
		r, width := utf16Rune(body[i:], bigEndian)
		if width == 0 {
			return "", encodingErrorAt(utf16String(body[:i], bigEndian, size), "UTF-16 surrogate without its other half")
		}
		size += utf8.RuneLen(r)
		i += width
	}
	if size > most {
		return "", limitError(most, "bytes")
	}
	return utf16String(body, bigEndian, size), nil
}

// utf16String is a checked body in UTF-8, which takes size bytes.
func utf16String(body []byte, bigEndian bool, size int) string {
	var b strings.Builder
	b.Grow(size)
	for i := 0; i < len(body); {
		r, width := utf16Rune(body[i:], bigEndian)
		b.WriteRune(r)
		i += width
	}
	return b.String()
}

// utf16Rune is the first character of a body of whole units, and its width in bytes, or 0 for half a pair of surrogates.
func utf16Rune(body []byte, bigEndian bool) (r rune, width int) {
	unit := func(i int) rune {
		if bigEndian {
			return rune(body[i])<<8 | rune(body[i+1])
		}
		return rune(body[i+1])<<8 | rune(body[i])
	}
	r = unit(0)
	if !utf16.IsSurrogate(r) {
		return r, 2
	}
	if len(body) < 4 {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, unit(2)); r == utf8.RuneError {
		return 0, 0
	}
	return r, 4
}

// invalidUTF8 is the offset of the first byte that is not part of a UTF-8 character, or -1.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, width := utf8.DecodeRuneInString(s[i:]); width == 1 {
				return i
			}
		}
	}
	return -1
}

// ascii keeps what counting lines needs of bytes in an unknown encoding.
func ascii(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, string(b))
}

func encodingError(format string, args ...any) *Error {
	return &Error{Class: ErrEncoding, Msg: fmt.Sprintf(format, args...)}
}

// encodingErrorAt is an encodingError at the end of before, which is UTF-8 or ASCII.
func encodingErrorAt(before, format string, args ...any) *Error {
	e := encodingError(format, args...)
	e.Line, e.Column = position(before)
	return e
}
