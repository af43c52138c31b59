package soap_test

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"unicode/utf16"
)

// corpus is well-formed documents that have everything in them that a scanner can meet, small so that a mutation hits something.
func corpus() [][]byte {
	documents := []string{
		message(1),
		`<?xml version="1.0" encoding="utf-8" standalone="yes"?><!-- a --><?p q?><a b="1" c='2'>x<!-- y -->z<?p q?><d/></a> <!-- e -->`,
		`<p:a xmlns:p="u" xmlns="v" xmlns:q="w"><b p:c="1" q:c="2" c="3" xml:lang="en"/><d xmlns="" xmlns:p="x"><p:e/></d></p:a>`,
		"<a b=' &lt;&#9;\t&quot;\r\n&#xA;x\r' >&amp;&gt;&#65;&#x1F600;\r\n]] &#93;&#93;&gt;\r<b  /> ></a >",
		"<a><![CDATA[<b>&c;]]]]><![CDATA[>\r\n]]>x<![CDATA[]]></a\t>",
		"<é ü='ß'>日本語\U0001f600<à·/></é>",
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><h s:mustUnderstand="0"/></s:Header><s:Body><a/></s:Body></s:Envelope>`,
		`<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><a xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/></e:Body></e:Envelope>`,
	}
	var all [][]byte
	for _, d := range documents {
		all = append(all, []byte(d))
	}
	const short = `<a b="é">x&amp;é<c/></a>`
	return append(all,
		[]byte("\ufeff"+documents[1]),
		utf16Of("\ufeff"+short, binary.LittleEndian),
		utf16Of("\ufeff"+`<?xml version="1.0" encoding="utf-16"?>`+short+"<!--\U0001f600-->", binary.BigEndian),
		[]byte(`<?xml version="1.0" encoding="iso-8859-1"?><a b="`+"\xe9"+`">`+"\xff\x85"+`</a>`),
		[]byte(`<?xml version="1.0" encoding="windows-1252"?><a b="`+"\x80"+`">`+"\x93\xe9\x94"+`</a>`),
		[]byte(`<?xml version="1.0" encoding="us-ascii"?><a b="c">&#233;</a>`),
	)
}

func utf16Of(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return b
}

// ruleDocuments are the documents of every rule.
func ruleDocuments() [][]byte {
	var all [][]byte
	families := allRules()
	for _, family := range slices.Sorted(maps.Keys(families)) {
		for _, r := range families[family] {
			all = append(all, []byte(r.document))
		}
	}
	return all
}

// mutants changes each of the documents a little, in the ways that parsers get wrong.
func mutants(documents [][]byte, each int) [][]byte {
	pieces := []string{
		"<", ">", "/", "&", ";", "'", `"`, "=", " ", "\t", "\r", "\n", ":", "-", "--", "]]>", "<!--", "-->", "<![CDATA[", "<?", "?>", "<?xml ", "<!DOCTYPE a>",
		"&#", "&#x", "&amp;", "&#0;", "&#xD800;", "&#55;", "xmlns", `xmlns:p="u"`, `xmlns:q="u"`, `xmlns=""`, ` p:c=""`, ` b="1"`, "p:", "xml:", "xmlns:", "a", "b", "1", ".", "<a>", "</a>", "<b/>",
		"\x00", "\x1f", "\x7f", "\x80", "\xc3", "\xef\xbf\xbe", "\xed\xa0\x80", "\xc0\x80", "\ufeff", "é", "·", "utf-8", "iso-8859-1", "1.0", "yes",
	}
	random := rand.New(rand.NewPCG(11, 7)) // the same mutants on every run
	var all [][]byte
	for _, document := range documents {
		for range each {
			m := slices.Clone(document)
			for range 1 + random.IntN(8)/6 {
				at := random.IntN(len(m) + 1)
				length := min(random.IntN(6), len(m)-at)
				switch piece := pieces[random.IntN(len(pieces))]; random.IntN(6) {
				case 0:
					m = slices.Insert(m, at, []byte(piece)...)
				case 1:
					m = slices.Replace(m, at, at+length, []byte(piece)...)
				case 2:
					m = slices.Delete(m, at, at+length)
				case 3: // a part moves, or stands twice
					part := slices.Clone(m[at : at+length])
					m = slices.Insert(m, random.IntN(len(m)+1), part...)
				case 4: // a byte becomes another one nearby, which often leaves a document well-formed
					if at < len(m) {
						m[at] ^= 1 << random.IntN(4)
					}
				case 5:
					m = m[:len(m)-random.IntN(min(len(m), 4)+1)]
				}
			}
			all = append(all, m)
		}
	}
	return all
}
