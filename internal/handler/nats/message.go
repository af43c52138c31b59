package nats

import (
	"errors"
	"fmt"
	"strings"

	"callbackd/internal/handler"

	"github.com/nats-io/nats.go"
)

// message makes the message of a delivery, as CloudEvents' NATS binding has it.
func (c *Config) message(d *handler.Delivery) (*nats.Msg, error) {
	e := d.Event()
	header, err := attributes(e)
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: c.subjectOf(d), Header: header}
	if c.Mode == Binary {
		m.Data, err = e.DataJSON()
		return m, err
	}
	// The other attributes are for consumers that filter. This one tells the SDKs of CloudEvents that a message is in binary mode.
	delete(header, "ce-specversion")
	delete(header, "ce-datacontenttype") // which is about the data within the payload
	header.Set("Content-Type", "application/cloudevents+json")
	m.Data, err = e.JSON()
	return m, err
}

// attributes are the headers of binary mode.
func attributes(e handler.Event) (nats.Header, error) {
	list, err := e.Attributes()
	if err != nil {
		return nil, err
	}
	header := nats.Header{}
	for name, value := range list {
		header.Set("ce-"+name, handler.PercentEncode(value))
	}
	return header, nil
}

// longestSubject is what NATS advises.
const longestSubject = 255

// checkSubject checks a subject or a template of subjects. Whatever the words stand for, the subject is one that can be published to.
func checkSubject(text string) error {
	if text == "" {
		return errors.New("missing: a subject, or a template such as thingspace.{service}.{kind}")
	}
	rest, words, err := handler.Template(text).Literal()
	switch {
	case err != nil:
		return err
	case strings.ContainsAny(rest, "*>"):
		return errors.New("* and > are for those who subscribe: write a subject that can be published to, such as thingspace.{service}.{kind}")
	case strings.ContainsFunc(rest, func(r rune) bool { return r != '.' && !handler.IsWordRune(r) }):
		return errors.New("the tokens of a subject have letters, digits, - and _ alone, and dots between them")
	case strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") || strings.Contains(text, ".."):
		return errors.New("there is nothing between two dots, or before the first, or behind the last")
	case strings.HasPrefix(text, "_INBOX."):
		return errors.New("_INBOX is where answers go to: take another")
	case len(rest)+words*handler.LongestWord > longestSubject:
		return fmt.Errorf("can come to more than %d characters, each word counted as %d: shorten it", longestSubject, handler.LongestWord)
	}
	return nil
}

// subjectOf is the subject that a delivery goes to.
func (c *Config) subjectOf(d *handler.Delivery) string {
	return handler.Template(c.Subject).Name(d)
}

// wildcard takes all the subjects of the template.
func (c *Config) wildcard() string {
	tokens := strings.Split(c.Subject, ".")
	for i, t := range tokens {
		if strings.Contains(t, "{") {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}
