package kafka

import (
	"errors"
	"fmt"
	"maps"
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

// longestTopic is Kafka's bound.
const longestTopic = 249

// checkTopic checks a topic or a template of topics. Whatever the words stand for, the name is one that Kafka takes.
func checkTopic(text string) error {
	if text == "" {
		return errors.New("missing: the name of a topic, or a template such as thingspace.{service}")
	}
	rest, words, err := handler.Template(text).Literal()
	switch {
	case err != nil:
		return err
	case strings.ContainsFunc(rest, func(r rune) bool { return r != '.' && !handler.IsWordRune(r) }):
		return errors.New("a topic's name has letters, digits, dots, - and _ alone")
	case words == 0 && (rest == "." || rest == ".."):
		return errors.New("there is no topic of this name in Kafka")
	case len(rest)+words*handler.LongestWord > longestTopic:
		return fmt.Errorf("can come to more than the %d characters that Kafka takes, each word counted as %d", longestTopic, handler.LongestWord)
	}
	return nil
}

// topicOf is the topic that a delivery goes to.
func (c *Config) topicOf(d *handler.Delivery) string {
	return handler.Template(c.Topic).Name(d)
}

// fixedTopic is the topic, unless it is a template.
func (c *Config) fixedTopic() string {
	if strings.Contains(c.Topic, "{") {
		return ""
	}
	return c.Topic
}
