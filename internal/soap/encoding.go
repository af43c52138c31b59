package soap

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Decode returns the document in raw as one UTF-8 string without byte order mark, and the name of the encoding that it
// arrived in. charset is the charset parameter of the HTTP Content-Type, or empty; as RFC 7303 has it, a byte order mark
// goes before it, and it goes before the XML declaration.
//
// The document takes possession of raw: UTF-8 is not copied, so the caller MUST NOT change raw afterwards.
func Decode(raw []byte, charset string, limits Limits) (document, encoding string, err error) {
	limits = limits.WithDefaults()
	if len(raw) > limits.Bytes {
		return "", "", limitError("bytes", limits.Bytes)
	}
	encoding, body, err := detect(raw, charset)
	if err != nil {
		return "", "", err
	}
	switch encoding {
	case "utf-8":
		document = unsafe.String(unsafe.SliceData(body), len(body))
	case "us-ascii":
		for i, c := range body {
			if c >= utf8.RuneSelf {
				return "", "", encodingError(string(body[:i]), "byte %#02x is not US-ASCII, the encoding it is labelled with", c)
			}
		}
		document = unsafe.String(unsafe.SliceData(body), len(body))
	case "iso-8859-1", "windows-1252":
		document, err = fromSingleByte(body, encoding == "windows-1252", limits.Bytes)
	case "utf-16le", "utf-16be":
		document, err = fromUTF16(body, encoding == "utf-16be", limits.Bytes)
	}
	if err != nil {
		return "", "", err
	}
	if i := invalidUTF8(document); i >= 0 {
		return "", "", encodingError(document[:i], "byte %#02x is not part of a UTF-8 character", document[i])
	}
	return document, encoding, nil
}

// detect names the encoding of raw and returns raw without its byte order mark.
func detect(raw []byte, charset string) (encoding string, body []byte, err error) {
	switch {
	case hasPrefix(raw, "\xff\xfe\x00\x00"), hasPrefix(raw, "\x00\x00\xfe\xff"):
		return "", nil, encodingError("", "UTF-32 is not supported: send UTF-8")
	case hasPrefix(raw, "\xef\xbb\xbf"):
		if declared := canonical(declaredEncoding(raw[3:])); declared != "" && declared != "utf-8" {
			return "", nil, encodingError("", "the byte order mark says UTF-8, the XML declaration %s", quoteName(declared))
		}
		return "utf-8", raw[3:], nil
	case hasPrefix(raw, "\xff\xfe"):
		return "utf-16le", raw[2:], nil
	case hasPrefix(raw, "\xfe\xff"):
		return "utf-16be", raw[2:], nil
	case hasPrefix(raw, "<\x00"), hasPrefix(raw, "\x00<"):
		return "", nil, encodingError("", "UTF-16 needs a byte order mark")
	}
	label, from := charset, "Content-Type"
	if label == "" {
		label, from = declaredEncoding(raw), "XML declaration"
	}
	switch name := canonical(label); name {
	case "":
		return "utf-8", raw, nil
	case "utf-8", "us-ascii", "iso-8859-1", "windows-1252":
		return name, raw, nil
	case "utf-16", "utf-16le", "utf-16be":
		return "", nil, encodingError("", "the %s says %s, but there is no byte order mark", from, quoteName(name))
	default:
		return "", nil, encodingError("", "encoding %s of the %s is not supported: send UTF-8", quoteName(name), from)
	}
}

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

// declaredEncoding finds the encoding of an XML declaration in bytes of an encoding that agrees with ASCII. It is lenient:
// the scanner judges the declaration afterwards.
func declaredEncoding(raw []byte) string {
	if !hasPrefix(raw, "<?xml") {
		return ""
	}
	const longest = 200
	decl := string(raw[:min(len(raw), longest)])
	end := strings.Index(decl, "?>")
	if end < 0 {
		return ""
	}
	_, rest, found := strings.Cut(decl[:end], "encoding")
	if !found {
		return ""
	}
	rest = strings.TrimLeft(rest, " \t\r\n=")
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
				return "", encodingError(ascii(body[:i]), "byte %#02x has no character in windows-1252", c)
			}
			size += utf8.RuneLen(windows1252[c-0x80])
		default:
			size += 2
		}
	}
	if size > most {
		return "", limitError("bytes", most)
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
		return "", encodingError("", "UTF-16 ends within a character")
	}
	unit := func(i int) rune {
		if bigEndian {
			return rune(body[i])<<8 | rune(body[i+1])
		}
		return rune(body[i+1])<<8 | rune(body[i])
	}
	var b strings.Builder
	b.Grow(min(len(body)/2+len(body)/8, most))
	for i := 0; i < len(body); i += 2 {
		r := unit(i)
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if i+2 < len(body) {
				low = unit(i + 2)
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return "", encodingError(b.String(), "UTF-16 surrogate without its other half")
			}
			i += 2
		}
		b.WriteRune(r)
		if b.Len() > most {
			return "", limitError("bytes", most)
		}
	}
	return b.String(), nil
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
