package platform

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Answer is what a listener said.
type Answer struct {
	Status int
	// Fault is the text of a SOAP fault, if there was one.
	Fault string
	Took  time.Duration
}

// Acked reports whether the platform would count the message as received.
func (a Answer) Acked() bool { return a.Status >= 200 && a.Status < 300 }

// Client posts messages as the platform does.
type Client struct {
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
	answer, err := c.post(within, url, message)
	if err != nil && errors.Is(context.Cause(within), ErrNoAnswer) {
		return Answer{}, ErrNoAnswer
	}
	return answer, err
}

func (c *Client) post(ctx context.Context, url string, message []byte) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(message))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	request.Header.Set("SOAPAction", `""`)
	for name, values := range c.Headers {
		request.Header[name] = values
	}
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	from := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	const longestAnswer = 64 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", err)
	}
	return Answer{Status: response.StatusCode, Fault: fault(body), Took: time.Since(from)}, nil
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

// Retries say how often the platform sends a message that is not acknowledged.
type Retries struct {
	Tries int           // in all
	Pause time.Duration // before the next try, once the listener has refused
}

// Published are the retries that Verizon's page tells of (schemas/README.md, section 3).
func Published() Retries { return Retries{Tries: 4, Pause: 5 * time.Minute} }

// Observed are the retries that were measured: one, soon.
func Observed() Retries { return Retries{Tries: 2, Pause: 1400 * time.Millisecond} }

// Attempt is one try to deliver a message.
type Attempt struct {
	Answer
	Err error
}

// Deliver sends one message, again and again, until it is acknowledged or the tries are used up, and reports each attempt. The
// message's CallbackCount, if it has one, counts them.
//
// A try without an answer for [Timeout] is followed by the next at once and stays open, as the platform leaves it: the listener may
// have both at the same time, and an answer to the first comes too late to stop the second. What is still open when Deliver returns is
// cut off; the attempt then bears [ErrNoAnswer].
func (c *Client) Deliver(ctx context.Context, url string, message []byte, r Retries) ([]Attempt, error) {
	attempts := make([]Attempt, 0, r.Tries)
	var open sync.WaitGroup
	defer open.Wait()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	for try := 1; try <= r.Tries; try++ {
		numbered, err := count(message, try)
		if err != nil {
			return attempts, fmt.Errorf("count attempt: %w", err)
		}
		done := make(chan Attempt, 1)
		open.Go(func() {
			answer, err := c.post(ctx, url, numbered)
			done <- Attempt{answer, err}
		})
		attempt, pause := Attempt{Err: ErrNoAnswer}, time.Duration(0)
		select {
		case attempt = <-done:
			pause = r.Pause
		case <-time.After(Timeout):
		}
		if err := ctx.Err(); err != nil {
			return attempts, err
		}
		attempts = append(attempts, attempt)
		if attempt.Acked() {
			return attempts, nil
		}
		if try < r.Tries {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return attempts, ctx.Err()
			}
		}
	}
	return attempts, nil
}
