package handler

import (
	"errors"
	"regexp"
	"strings"
)

// Template is a name that a delivery is sent under, such as that of a topic: {service}, {kind} and {account} in it stand for those of the delivery.
// Whatever they are, what a word becomes has letters, digits, - and _ alone, so that no callback says where it goes.
type Template string

// LongestWord bounds what a word of a [Template] becomes: a label is as long as that.
const LongestWord = 64

// Literal is what the template has beside its words, and how many of those. It is an error if a word is none of them.
func (t Template) Literal() (text string, words int, err error) {
	text = regexp.MustCompile(`\{(service|kind|account)\}`).ReplaceAllStringFunc(string(t), func(string) string { words++; return "" })
	if strings.ContainsAny(text, "{}") {
		return "", 0, errors.New("{service}, {kind} and {account} are the words of a template, and there is another, or a brace without its other half")
	}
	return text, words, nil
}

// Name is the name for a delivery.
func (t Template) Name(d *Delivery) string {
	return strings.NewReplacer("{service}", word(string(d.Service)), "{kind}", word(string(d.Callback.Kind)), "{account}", word(d.Account)).Replace(string(t))
}

// word is a text as a part of a name. A dot is none, for it is the template that divides names.
func word(text string) string {
	if text == "" {
		return "-"
	}
	text = strings.Map(func(r rune) rune {
		if !IsWordRune(r) {
			return '-'
		}
		return r
	}, text)
	return text[:min(len(text), LongestWord)]
}

// IsWordRune reports whether a word of a [Template] may become something with this character.
func IsWordRune(r rune) bool {
	return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}
