package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
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

// Post sends one message. No redirect is followed: the platform is not known to.
func (c *Client) Post(ctx context.Context, url string, message []byte) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
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
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s, after which the platform sends the message again", Timeout)
		}
		return Answer{}, err
	}
	defer response.Body.Close()
	const longestAnswer = 64 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", err)
	}
	return Answer{Status: response.StatusCode, Fault: fault(string(body)), Took: time.Since(from)}, nil
}

var faultText = regexp.MustCompile(`(?s)<(?:[\w-]+:)?(?:faultstring|Text)[^>]*>(.*?)</`)

func fault(body string) string {
	if m := faultText.FindStringSubmatch(body); m != nil {
		return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&#34;", `"`, "&#39;", "'", "&quot;", `"`, "&amp;", "&").Replace(m[1])
	}
	return ""
}
