package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"callbackd/internal/handler"
)

// message puts an event into headers and a body.
func (m Mode) message(e handler.Event) (http.Header, []byte, error) {
	if m == Binary {
		header, err := attributes(e)
		if err != nil {
			return nil, nil, err
		}
		body, err := marshal(e.Data)
		return header, body, err
	}
	body, err := marshal(e)
	return http.Header{"Content-Type": {"application/cloudevents+json"}}, body, err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("marshal event: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// attributes are the headers of binary mode: what stands beside data in the event's JSON, whatever that comes to be.
func attributes(e handler.Event) (http.Header, error) {
	e.Data = nil
	text, err := marshal(e)
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	header := http.Header{"Content-Type": {e.DataContentType}}
	for name, value := range members {
		if name != "data" && name != "datacontenttype" {
			header.Set("ce-"+name, percentEncode(fmt.Sprint(value)))
		}
	}
	return header, nil
}

// percentEncode writes a value as the HTTP binding of CloudEvents asks for: all but printable ASCII, and the space, the double quote and the
// percent sign, as the bytes of UTF-8.
func percentEncode(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
