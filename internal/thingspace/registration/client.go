package registration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace/internal/uws/connectivity"
	"callbackd/internal/thingspace/internal/uws/registration"
)

// Where the platform is, as far as it is known: the address and the pattern were read in code that called it.
const (
	DefaultURL        = "https://uws.apps.nphase.com/api/v2"
	DefaultSOAPAction = "http://nphase.com/unifiedwebservice/v2/I{service}/{operation}"
	DefaultTimeout    = 30 * time.Second
)

const (
	registrationService = "CallbackRegistrationService"
	connectivityService = "EnhancedConnectivityService"

	mostAnswer = 1 << 20 // bytes
	mostList   = 4 << 20 // of an answer that is a list
	connecting = 10 * time.Second

	longestAction = 1024 // bytes
)

// Options are what a Client is made of.
type Options struct {
	URL        string        // of the platform, without the service; empty: [DefaultURL]. Plain http goes to loopback alone
	SOAPAction string        // with {service} and {operation}, such as [DefaultSOAPAction]; empty: the header is sent empty
	Timeout    time.Duration // of one request with its answer; 0: [DefaultTimeout]
	Login      Login
	State      *State         // remembers refused log-ins; needed
	RootCAs    *x509.CertPool // nil: those of the system
	Version    string         // of this program, for the platform's support; may be empty
}

// Client calls the platform's services for one log-in. It is safe for concurrent use; its calls share a session, which begins with
// the first call and is renewed when it ends.
type Client struct {
	url     string
	action  string
	agent   string
	timeout time.Duration
	http    *http.Client
	tokens  *tokens // behind a pointer, so that a print of the Client shows neither token nor password
}

// NewClient checks the options. It does not connect.
func NewClient(o Options) (*Client, error) {
	if o.State == nil {
		return nil, errors.New("a client of the platform needs a State: without one, every start could spend a failed log-in")
	}
	if o.Login.Username == "" || o.Login.Password == "" {
		return nil, errors.New("the log-in has no user name or no password: set uws_username, and uws_password_file or uws_password_env")
	}
	base, err := checkEndpoint(cmp.Or(o.URL, DefaultURL))
	if err != nil {
		return nil, fmt.Errorf("platform.url: %w", err)
	}
	if err := CheckSOAPAction(o.SOAPAction); err != nil {
		return nil, fmt.Errorf("platform.soap_action: %w", err)
	}
	timeout := cmp.Or(o.Timeout, DefaultTimeout)
	return &Client{
		url: base, action: o.SOAPAction, agent: strings.TrimSuffix("callbackd/"+o.Version, "/"), timeout: timeout,
		http:   &http.Client{Transport: newTransport(o.RootCAs), CheckRedirect: stay},
		tokens: &tokens{login: &o.Login, state: o.State, url: base, timeout: timeout, now: time.Now, turn: make(chan struct{}, 1)},
	}, nil
}

// stay follows no redirect: the password would follow it.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connecting}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    connecting,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second, // less than servers keep one, so that none closes under a request
		ForceAttemptHTTP2:      true,
	}
}

// CheckEndpoint says what keeps a URL from being that of the platform, to which /Service.svc is added.
func CheckEndpoint(text string) error {
	_, err := checkEndpoint(text)
	return err
}

func checkEndpoint(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case len(text) > longestURL:
		return "", fmt.Errorf("is longer than %d bytes", longestURL)
	case err != nil:
		return "", errors.New("is not a URL") // the parser's error would quote it, with a password that it may hold
	case u.User != nil:
		return "", errors.New("holds a user name: the log-in belongs into accounts")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "", errors.New("is not of the form https://host/path")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "", errors.New("has a query or a fragment, to which no service can be added")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "", errors.New("is plain http, which would show the password to the network: only a simulator on this machine is called so; write https")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// CheckSOAPAction says what keeps a pattern from making headers.
func CheckSOAPAction(pattern string) error {
	rest := strings.NewReplacer("{service}", "", "{operation}", "").Replace(pattern)
	switch {
	case pattern == "":
		return nil
	case len(pattern) > longestAction:
		return fmt.Errorf("is longer than %d bytes", longestAction)
	case strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }):
		return errors.New("holds a quote, a blank or a character that no HTTP header carries; the quotes around it are written by callbackd")
	case strings.ContainsAny(rest, "{}"):
		return errors.New("has braces that are neither {service} nor {operation}")
	case !strings.Contains(pattern, "{operation}"):
		return fmt.Errorf("lacks {operation}, so that all operations would be one: write it as in %s", DefaultSOAPAction)
	}
	return nil
}

// List asks which listeners the platform holds for an account.
func (c *Client) List(ctx context.Context, account string) ([]Registration, error) {
	message := &registration.GetCallbackRegistrations{Input: &registration.GetCallbackRegistrationsRequest{AccountName: account}}
	a, err := c.call(ctx, request{registrationService, message}, mostList)
	if err != nil {
		return nil, err
	}
	list, err := a.registrations(account)
	if err != nil {
		return nil, fmt.Errorf("GetCallbackRegistrations: %w", err)
	}
	return list, nil
}

// Register makes r.URL the listener of r.Service. The platform will put callback, which may be empty, into each message.
func (c *Client) Register(ctx context.Context, r Registration, callback Login) error {
	message := &registration.RegisterCallback{Input: &registration.RegisterCallbackRequest{
		AccountName: r.Account, ServiceName: r.Service, Url: r.URL, Username: callback.Username, Password: callback.Password}}
	a, err := c.call(ctx, request{registrationService, message}, mostAnswer, callback.Password)
	if err != nil {
		return err
	}
	if f := a.payload.find("CallbackFailure"); f != nil && len(f.texts(nil)) > 0 {
		return fmt.Errorf("RegisterCallback: %w", &Fault{Operation: "RegisterCallback", Service: registrationService, Code: "CallbackFailure",
			Text: bounded(mask(strings.Join(f.texts(nil), "; "), c.secrets(callback.Password)))})
	}
	return nil
}

// Unregister takes the listener away from a service. What the platform sends until another is registered is lost.
func (c *Client) Unregister(ctx context.Context, account, service string) error {
	message := &registration.UnregisterCallback{Input: &registration.UnregisterCallbackRequest{AccountName: account, ServiceName: service}}
	_, err := c.call(ctx, request{registrationService, message}, mostAnswer)
	return err
}

// StartSMS has the platform send the SMS of devices that it queued while no listener took them.
func (c *Client) StartSMS(ctx context.Context, account string) error {
	message := &connectivity.StartSmsCallback{Input: &connectivity.StartSmsCallbackRequest{AccountName: account}}
	_, err := c.call(ctx, request{connectivityService, message}, mostAnswer)
	return err
}

// secrets are the texts that no error repeats.
func (c *Client) secrets(more ...string) []string { return append(more, c.tokens.login.Password) }

// call carries out an operation within the session. If the platform says that the session is over it did nothing, so the request goes out
// once more in a new one.
func (c *Client) call(ctx context.Context, r request, most int, secrets ...string) (answer, error) {
	token, err := c.tokens.get(ctx, "", c.logIn)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", r.operation(), err)
	}
	a, err := c.exchange(ctx, r, token, most, secrets...)
	if !errors.Is(err, ErrNoSession) {
		return a, err
	}
	if token, err = c.tokens.get(ctx, token, c.logIn); err != nil {
		return answer{}, fmt.Errorf("%s: log in again: %w", r.operation(), err)
	}
	return c.exchange(ctx, r, token, most, secrets...)
}

// exchange sends a request and reads the answer to it.
func (c *Client) exchange(ctx context.Context, r request, token string, most int, secrets ...string) (answer, error) {
	operation := r.operation()
	body, err := r.encode(token)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", operation, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, timeoutError{"answer", c.timeout})
	defer cancel()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/"+r.service+".svc", bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", operation, err)
	}
	post.Header.Set("Content-Type", soap.V11.ContentType())
	post.Header.Set("SOAPAction", strconv.Quote(strings.NewReplacer("{service}", r.service, "{operation}", operation).Replace(c.action)))
	post.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(post)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", operation, unanswered(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", operation, unanswered(ctx, fmt.Errorf("the answer is cut short: %w", err)))
	}
	a, err := judge(resp, raw, operation, most, c.secrets(append(secrets, token)...))
	if err != nil {
		return answer{}, fmt.Errorf("%s at %s: %w", operation, post.URL.Redacted(), err)
	}
	return a, nil
}

// timeoutError says how long was waited, and for what; the standard library's says neither.
type timeoutError struct {
	what  string
	after time.Duration
}

func (e timeoutError) Error() string { return fmt.Sprintf("no %s within %v", e.what, e.after) }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Unwrap() error   { return context.DeadlineExceeded }

// unanswered is an exchange that came to nothing, with what to do about it. The caller's own end is none of the network's failures.
func unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	advice := "check the network, and HTTPS_PROXY if a proxy leads out"
	if ctx.Err() != nil {
		advice = "the platform or the way to it is slow: try again, or raise platform.timeout"
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		advice = "this machine does not trust the certificate: if a proxy of yours shows it, add its authority to those of the system; " +
			"else check platform.url"
	}
	return fmt.Errorf("%w: %w: %s", ErrUnreachable, err, advice)
}

// judge tells an answer from a fault, and both from what is neither. WCF sends faults with status 500, others with 200.
func judge(resp *http.Response, raw []byte, operation string, most int, secrets []string) (answer, error) {
	kind, parameters, readable := contentType(resp.Header.Get("Content-Type"))
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	if ok && len(raw) == 0 && operation == "LogOut" {
		return answer{}, nil
	}
	var a answer
	var err error
	switch {
	case len(raw) > most:
		err = answerError("it is longer than %d bytes", most)
	case len(raw) == 0:
		err = answerError("it is empty")
	case !readable:
		err = answerError("it is %s and not a SOAP message: platform.url leads elsewhere, or a proxy answers for the platform", kind)
	default:
		a, err = readAnswer(raw, parameters["charset"], most)
	}
	if err == nil {
		if fault := a.payload.fault(operation, secrets); fault != nil {
			return answer{}, fault
		}
		if want := operation + "Response"; a.payload.name != want {
			err = answerError("it is a %q and not a %s", bounded(a.payload.name), want)
		}
	}
	if !ok {
		return answer{}, statusError(resp, kind)
	}
	return a, err
}

// contentType reads the header, and tells whether what it announces may be SOAP. A missing one is no obstacle.
func contentType(header string) (kind string, parameters map[string]string, readable bool) {
	if header == "" {
		return "of no content type", nil, true
	}
	kind, parameters, err := mime.ParseMediaType(header)
	if err != nil && kind == "" {
		return "of a malformed content type", nil, false
	}
	switch kind {
	case "text/xml", "application/xml", "application/soap+xml":
		return kind, parameters, true
	}
	return bounded(kind), nil, false
}

// statusError is an HTTP status that speaks for itself, without a SOAP message.
func statusError(resp *http.Response, kind string) error {
	advice := "try again later"
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400:
		advice = "redirects are not followed, for the password would follow them"
		if to, err := resp.Location(); err == nil {
			advice += "; it points to " + bounded(to.Scheme+"://"+to.Host+to.Path) + ": if that is the platform, make it platform.url"
		}
	case code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
		advice = "check platform.url, to which /Service.svc is added"
	case code == http.StatusUnsupportedMediaType, code == http.StatusBadRequest:
		advice = "check platform.url and platform.soap_action"
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		advice = "somebody before the platform refuses: a proxy, or a list of allowed addresses"
	}
	return answerError("HTTP status %d with %s: %s", resp.StatusCode, kind, advice)
}
