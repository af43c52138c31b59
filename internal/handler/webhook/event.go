package webhook

import (
	"net/http"

	"callbackd/internal/handler"
)

// message puts an event into headers and a body.
func (m Mode) message(e handler.Event) (http.Header, []byte, error) {
	if m == Binary {
		header, err := attributes(e)
		if err != nil {
			return nil, nil, err
		}
		body, err := e.DataJSON()
		return header, body, err
	}
	body, err := e.JSON()
	return http.Header{"Content-Type": {"application/cloudevents+json"}}, body, err
}

// attributes are the headers of binary mode.
func attributes(e handler.Event) (http.Header, error) {
	list, err := e.Attributes()
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {e.DataContentType}}
	for name, value := range list {
		if name != "datacontenttype" {
			header.Set("ce-"+name, handler.PercentEncode(value))
		}
	}
	return header, nil
}
