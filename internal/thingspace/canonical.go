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
	hash  hash.Hash // of what is no longer in buf, if that is not all of it
	begun bool      // there is such
	buf   []byte
	blank []byte // white space that counts only if it turns out to be an element's only content

	ours string // Namespace, as the document has it: comparing with the same memory is quick

	leaf    bool // no element since the last start tag
	hasText bool // in this run of text
}

const (
	markStart = 1
	markAttr  = 2
	markEnd   = 3
	markSep   = 4
	markOurs  = 5 // for Namespace, in which nearly every name is
)

func (c *canonical) reset(space string) {
	if c.ours = Namespace; space == Namespace {
		c.ours = space
	}
	c.begun = false
	c.buf, c.blank = c.buf[:0], c.blank[:0]
	c.leaf, c.hasText = false, false
}

func (c *canonical) start(name soap.Name, attrs []soap.Attr) {
	c.blank, c.leaf, c.hasText = c.blank[:0], true, false
	c.buf = c.name(append(c.buf, markStart), name)
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
		c.buf = append(c.name(append(c.buf, markAttr), a.Name), markSep)
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

// plain takes a whole element that has no attributes, but for xsi:nil if it isNil, and nothing in it but a text.
func (c *canonical) plain(name soap.Name, isNil bool, text string) {
	if isNil {
		c.start(name, nilled)
		c.end()
		return
	}
	b := c.name(append(c.buf, markStart), name)
	if text != "" {
		b = append(append(b, markSep), text...)
	}
	c.buf = append(b, markEnd)
	c.blank, c.leaf, c.hasText = c.blank[:0], false, false
	c.flush()
}

// nilled are the attributes of an element that is nil.
var nilled = []soap.Attr{{Name: nilName, Value: "true"}}

func (c *canonical) name(b []byte, n soap.Name) []byte {
	if n.Space == c.ours {
		b = append(b, markOurs)
	} else {
		b = append(append(b, n.Space...), markSep)
	}
	return append(b, n.Local...)
}

func (c *canonical) text(s string) {
	if !c.hasText && isBlank(s) {
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

// flush hashes what is there once it is much: what is less is hashed at once, in the end.
func (c *canonical) flush() {
	const enough = 8 << 10
	if len(c.buf) >= enough {
		c.drain()
	}
}

func (c *canonical) drain() {
	if c.hash == nil {
		c.hash = sha256.New()
	}
	if !c.begun {
		c.hash.Reset()
		c.begun = true
	}
	c.hash.Write(c.buf)
	c.buf = c.buf[:0]
}

func (c *canonical) sum() (digest [sha256.Size]byte) {
	if !c.begun {
		return sha256.Sum256(c.buf)
	}
	c.drain()
	c.hash.Sum(digest[:0])
	return digest
}
