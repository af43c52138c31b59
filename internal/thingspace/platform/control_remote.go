package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Remote is a simulator that runs in another process, by its control interface.
type Remote struct {
	url  string
	http *http.Client
}

// NewRemote returns the simulator at a URL: that of the control interface, or the one that clients of the SOAP services are given.
func NewRemote(address string) (*Remote, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL such as http://%s", address, DefaultListen)
	}
	return &Remote{"http://" + u.Host + "/control/", &http.Client{Transport: &http.Transport{}}}, nil
}

// Close lets go of the connections.
func (r *Remote) Close() { r.http.CloseIdleConnections() }

// Registrations lists what is registered, without the passwords.
func (r *Remote) Registrations(ctx context.Context) (list []Registration, err error) {
	err = r.call(ctx, http.MethodGet, "registrations", nil, &list)
	return list, err
}

// LogIns counts the attempts to log in.
func (r *Remote) LogIns(ctx context.Context) (l LogIns, err error) {
	err = r.call(ctx, http.MethodGet, "log-ins", nil, &l)
	return l, err
}

// SMSQueues counts the texts that wait for StartSmsCallback.
func (r *Remote) SMSQueues(ctx context.Context) (list []SMSQueue, err error) {
	err = r.call(ctx, http.MethodGet, "sms", nil, &list)
	return list, err
}

// SendSMS has a device send a text.
func (r *Remote) SendSMS(ctx context.Context, m SMS) (delivered bool, err error) {
	var result SMSResult
	err = r.call(ctx, http.MethodPost, "sms", m, &result)
	return result.Delivered, err
}

// call asks for one answer.
func (r *Remote) call(ctx context.Context, method, path string, body, answer any) error {
	response, err := r.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the simulator's answer: %w", err)
	}
	return nil
}

// do asks, and hands on an answer that is a success.
func (r *Remote) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, content)
	if err != nil {
		return nil, err
	}
	response, err := r.http.Do(request)
	var around *url.Error // names the whole path, of which the host is enough
	if errors.As(err, &around) {
		err = around.Err
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("ask the simulator: %w: does one run there?", err)
	} else if err != nil {
		return nil, fmt.Errorf("ask the simulator at %s: %w", request.URL.Host, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var f failure
	const longest = 64 << 10
	if json.NewDecoder(io.LimitReader(response.Body, longest)).Decode(&f) != nil || f.Error == "" {
		return nil, fmt.Errorf("%s answers %s: is it a simulator?", strings.TrimSuffix(r.url, "/control/"), response.Status)
	}
	if f.Error == ErrNotArchived.Error() {
		return nil, ErrNotArchived
	}
	return nil, errors.New(f.Error)
}
