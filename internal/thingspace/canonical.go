package thingspace

import (
	"crypto/sha256"
	"hash"
	"slices"
	"strings"

	"callbackd/internal/soap"
)

// canonical digests a stream of tokens so that two spellings of the same content have the same digest: prefixes, the order of
// attributes, comments, CDATA sections and white space between elements do not matter.
//
// The bytes below are no XML characters, so no text can imitate a mark.
type canonical struct {
	hash  hash.Hash
	buf   []byte
	blank []byte // white space that counts only if it turns out to be an element's only content

	leaf    bool // no element since the last start tag
	hasText bool // in this run of text
}

const (
	markStart = 1
	markAttr  = 2
	markEnd   = 3
	markSep   = 4
)

func (c *canonical) reset() {
	if c.hash == nil {
		c.hash = sha256.New()
	}
	c.hash.Reset()
	c.buf, c.blank = c.buf[:0], c.blank[:0]
	c.leaf, c.hasText = false, false
}

func (c *canonical) start(name soap.Name, attrs []soap.Attr) {
	c.blank, c.leaf, c.hasText = c.blank[:0], true, false
	c.buf = append(c.buf, markStart)
	c.name(name)
	if len(attrs) > 1 {
		attrs = slices.Clone(attrs)
		slices.SortFunc(attrs, func(a, b soap.Attr) int {
			if d := strings.Compare(a.Name.Space, b.Name.Space); d != 0 {
				return d
			}
			return strings.Compare(a.Name.Local, b.Name.Local)
		})
	}
	for _, a := range attrs {
		c.buf = append(c.buf, markAttr)
		c.name(a.Name)
		c.buf = append(c.buf, markSep)
		switch value := strings.Trim(a.Value, " "); {
		case a.Name == nilName && value == "1":
			c.buf = append(c.buf, "true"...)
		case a.Name == nilName:
			c.buf = append(c.buf, value...)
		case !isPassword(a.Name.Local):
			c.buf = append(c.buf, a.Value...)
		}
	}
	c.flush()
}

// gap stands for an element that is left out. White space around it does not count.
func (c *canonical) gap() { c.blank, c.leaf, c.hasText = c.blank[:0], false, false }

func (c *canonical) name(n soap.Name) {
	c.buf = append(c.buf, n.Space...)
	c.buf = append(c.buf, markSep)
	c.buf = append(c.buf, n.Local...)
}

func (c *canonical) text(s string) {
	if !c.hasText && strings.Trim(s, " \t\r\n") == "" {
		c.blank = append(c.blank, s...)
		return
	}
	if !c.hasText {
		c.buf = append(c.buf, markSep)
		c.buf = append(c.buf, c.blank...)
		c.blank, c.hasText = c.blank[:0], true
	}
	c.buf = append(c.buf, s...)
	c.flush()
}

func (c *canonical) end() {
	if c.leaf && len(c.blank) > 0 {
		c.buf = append(c.buf, markSep)
		c.buf = append(c.buf, c.blank...)
	}
	c.blank, c.leaf, c.hasText = c.blank[:0], false, false
	c.buf = append(c.buf, markEnd)
}

func (c *canonical) flush() {
	const enough = 4 << 10
	if len(c.buf) >= enough {
		c.hash.Write(c.buf)
		c.buf = c.buf[:0]
	}
}

func (c *canonical) sum() (digest [sha256.Size]byte) {
	c.hash.Write(c.buf)
	c.hash.Sum(digest[:0])
	return digest
}
