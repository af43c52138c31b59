package platform

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"time"

	"callbackd/internal/soap"
)

// Answer is what a listener said.
type Answer struct {
	Status int
	// Fault is the text of a SOAP fault, if there was one.
	Fault string
	Took  time.Duration

	contentType string
	body        []byte
}

// Acked reports whether the platform would count the message as received, by the rule that is published: [AckAny].
func (a Answer) Acked() bool { return AckAny.check(a) == nil }

// longestAnswer is what a WCF client reads of an answer by default. What is longer is no answer to it.
const longestAnswer = 64 << 10

// check says why an answer is no acknowledgement; nil if it is one.
func (r AckRule) check(a Answer) error {
	switch {
	case a.Status < 200 || a.Status > 299:
		return fmt.Errorf("refused with %d", a.Status)
	case r == AckEnvelope:
		if err := a.envelope(); err != nil {
			return fmt.Errorf("%d without the envelope that a request-reply client wants: %w", a.Status, err)
		}
	case r == AckEmpty && len(a.body) > 0:
		return fmt.Errorf("%d with a body, where a one-way client wants none", a.Status)
	case r == AckEmpty && a.Status != http.StatusOK && a.Status != http.StatusAccepted && a.Status != http.StatusNoContent:
		return fmt.Errorf("%d, where a one-way client wants 200, 202 or 204", a.Status)
	}
	return nil
}

// envelope says why an answer is not a SOAP 1.1 envelope; nil if it is one that tells of no fault.
func (a Answer) envelope() error {
	media, parameters, err := mime.ParseMediaType(a.contentType)
	if err != nil || media != "text/xml" {
		return fmt.Errorf("Content-Type is %q, not text/xml", a.contentType)
	}
	if len(a.body) > longestAnswer {
		return fmt.Errorf("it is longer than %d KiB", longestAnswer>>10)
	}
	document, _, err := soap.Decode(bytes.Clone(a.body), parameters["charset"], soap.Limits{})
	if err != nil {
		return err
	}
	var s soap.Scanner
	s.Reset(document, soap.Limits{})
	root, bodies := "", 0
	for {
		token, err := s.Next()
		if err != nil {
			return err
		}
		if token == soap.EOF {
			break
		}
		if token != soap.Start {
			continue
		}
		name := s.Name()
		switch s.Depth() {
		case 1:
			root = name.Local
			if name != (soap.Name{Space: soap.Namespace11, Local: "Envelope"}) {
				return fmt.Errorf("the root is %s", name)
			}
		case 2:
			if name == (soap.Name{Space: soap.Namespace11, Local: "Body"}) {
				bodies++
			}
		case 3:
			if name == (soap.Name{Space: soap.Namespace11, Local: "Fault"}) {
				return errors.New("it is a fault")
			}
		}
	}
	if bodies != 1 {
		return fmt.Errorf("the %s has %d Bodies", root, bodies)
	}
	return nil
}

// Client posts messages as the platform does.
type Client struct {
	// HTTP gives its Transport. Its other fields are not used.
	HTTP *http.Client
	// Headers are added to each request.
	Headers http.Header
}

// Timeout is how long the platform waits for an answer before it sends a message again.
const Timeout = 4 * time.Second

// ErrNoAnswer says that nothing came within [Timeout].
var ErrNoAnswer = fmt.Errorf("no answer within %s, after which the platform sends the message again", Timeout)

// Post sends one message and waits for the answer as long as the platform does. No redirect is followed: the platform is not known
// to.
func (c *Client) Post(ctx context.Context, url string, message []byte) (Answer, error) {
	within, cancel := context.WithTimeoutCause(ctx, Timeout, ErrNoAnswer)
	defer cancel()
	transport := c.HTTP.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	header := http.Header{"Soapaction": {`""`}}
	for name, values := range c.Headers {
		header[name] = values
	}
	answer, err := post(within, transport, url, message, header)
	if err != nil && errors.Is(context.Cause(within), ErrNoAnswer) {
		return Answer{}, ErrNoAnswer
	}
	return answer, err
}

// post sends one message over HTTP the way a .NET client does.
func post(ctx context.Context, transport http.RoundTripper, url string, message []byte, header http.Header) (Answer, error) {
	header = header.Clone()
	header.Set("Content-Type", "text/xml; charset=utf-8")
	header["User-Agent"] = nil // or Go's would be sent; a .NET client sends none
	// RoundTrip calls this before it writes the request, in its own goroutine.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			header.Set("Expect", "100-continue")
		}
	}})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(message))
	if err != nil {
		return Answer{}, err
	}
	request.Header = header
	from := time.Now()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer+1))
	if err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", err)
	}
	return Answer{Status: response.StatusCode, Fault: fault(body), Took: time.Since(from),
		contentType: response.Header.Get("Content-Type"), body: body}, nil
}

// fault is the text of the SOAP fault in an answer, of either version, or empty.
func fault(body []byte) string {
	for d := xml.NewDecoder(bytes.NewReader(body)); ; {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "faultstring" && start.Name.Local != "Text" {
			continue
		}
		var text string
		if d.DecodeElement(&text, &start) != nil {
			return ""
		}
		return text
	}
}
