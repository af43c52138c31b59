package kafka

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"callbackd/internal/handler"

	"github.com/twmb/franz-go/pkg/kgo"
)

// record makes the record of a delivery: the event as CloudEvents' Kafka binding has it in structured mode, its attributes in headers beside it.
func (c *Config) record(d *handler.Delivery) (*kgo.Record, error) {
	e := d.Event()
	value, err := e.JSON()
	if err != nil {
		return nil, err
	}
	list, err := headers(e)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Topic: c.topicOf(d), Value: value, Headers: list}
	if e.Subject != "" {
		r.Key = []byte(e.Subject)
	}
	return r, nil
}

// headers are the attributes of the event, so that a consumer can tell what it has, and whether it had it before, without reading the JSON.
func headers(e handler.Event) ([]kgo.RecordHeader, error) {
	attributes, err := e.Attributes()
	if err != nil {
		return nil, err
	}
	list := []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if name != "datacontenttype" { // which is about the data within the value
			list = append(list, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(attributes[name])})
		}
	}
	return list, nil
}

// size is what of a record counts against max_message_bytes, a few bytes of lengths aside.
func size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// longestTopic is Kafka's bound, and longestWord what a word of a template comes to at most: a label is as long as that.
const longestTopic, longestWord = 249, 64

// checkTopic checks a topic or a template of topics. Whatever the words stand for, the name is one that Kafka takes.
func checkTopic(text string) error {
	if text == "" {
		return errors.New("missing: the name of a topic, or a template such as thingspace.{service}")
	}
	words := 0
	rest := regexp.MustCompile(`\{(service|kind|account)\}`).ReplaceAllStringFunc(text, func(string) string { words++; return "" })
	switch {
	case strings.ContainsAny(rest, "{}"):
		return errors.New("{service}, {kind} and {account} are the words of a template, and there is another, or a brace without its other half")
	case strings.ContainsFunc(rest, func(r rune) bool { return r != '.' && cleaned(r) != r }):
		return errors.New("a topic's name has letters, digits, dots, - and _ alone")
	case words == 0 && (rest == "." || rest == ".."):
		return errors.New("there is no topic of this name in Kafka")
	case len(rest)+words*longestWord > longestTopic:
		return fmt.Errorf("can come to more than the %d characters that Kafka takes, each word counted as %d", longestTopic, longestWord)
	}
	return nil
}

// topicOf is the topic that a delivery goes to.
func (c *Config) topicOf(d *handler.Delivery) string {
	return strings.NewReplacer("{service}", word(string(d.Service)), "{kind}", word(string(d.Callback.Kind)), "{account}", word(d.Account)).Replace(c.Topic)
}

// fixedTopic is the topic, unless it is a template.
func (c *Config) fixedTopic() string {
	if strings.Contains(c.Topic, "{") {
		return ""
	}
	return c.Topic
}

// word is a text as a part of a topic's name. A dot is none, for it is the template that divides names.
func word(text string) string {
	if text == "" {
		return "-"
	}
	text = strings.Map(cleaned, text)
	return text[:min(len(text), longestWord)]
}

func cleaned(r rune) rune {
	if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
		return '-'
	}
	return r
}
