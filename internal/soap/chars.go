package soap

import (
	"strings"
	"unicode/utf8"
)

// Classes of ASCII bytes.
const (
	nameStart = 1 << iota
	nameChar
	plainText  // stands in text for itself and needs no second look
	plainValue // does so in an attribute's value too
)

var class = func() (t [256]uint8) {
	for c := range t {
		b := byte(c)
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_'
		if letter {
			t[c] |= nameStart
		}
		if letter || b >= '0' && b <= '9' || b == '-' || b == '.' {
			t[c] |= nameChar
		}
		// 0xef may begin U+FFFE or U+FFFF.
		if b == '\t' || b == '\n' || b >= ' ' && b != '<' && b != '&' && b != ']' && b != 0xef {
			t[c] |= plainText
			if b >= ' ' && b != '"' && b != '\'' {
				t[c] |= plainValue
			}
		}
	}
	return t
}()

// whiteSpace is the production S of XML 1.0.
const whiteSpace = " \t\r\n"

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// isChar is the production Char of XML 1.0.
func isChar(r rune) bool {
	switch {
	case r < ' ':
		return r == '\t' || r == '\n' || r == '\r'
	case r <= 0xd7ff:
		return true
	case r < 0xe000:
		return false
	}
	return r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// isNameStart is the production NameStartChar of XML 1.0, fifth edition, without the colon.
func isNameStart(r rune) bool {
	if r < utf8.RuneSelf {
		return class[r]&nameStart != 0
	}
	return r >= 0xc0 && r <= 0xd6 || r >= 0xd8 && r <= 0xf6 || r >= 0xf8 && r <= 0x2ff ||
		r >= 0x370 && r <= 0x37d || r >= 0x37f && r <= 0x1fff || r >= 0x200c && r <= 0x200d ||
		r >= 0x2070 && r <= 0x218f || r >= 0x2c00 && r <= 0x2fef || r >= 0x3001 && r <= 0xd7ff ||
		r >= 0xf900 && r <= 0xfdcf || r >= 0xfdf0 && r <= 0xfffd || r >= 0x10000 && r <= 0xeffff
}

// isNameChar is the production NameChar, without the colon.
func isNameChar(r rune) bool {
	if r < utf8.RuneSelf {
		return class[r]&nameChar != 0
	}
	return isNameStart(r) || r == 0xb7 || r >= 0x300 && r <= 0x36f || r >= 0x203f && r <= 0x2040
}

func isEncodingName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')) {
			return false
		}
	}
	return s != ""
}

// IsQName reports whether s is a name with at most one colon, between its prefix and its local name.
func IsQName(s string) bool {
	prefix, local, found := strings.Cut(s, ":")
	return isName(prefix) && (!found || isName(local))
}
