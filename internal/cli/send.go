package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/certificate"
	"callbackd/internal/config"
	"callbackd/internal/receiver"
	"callbackd/internal/thingspace/platform"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// sender is one run of `send`.
type sender struct {
	*env
	config  *config.Config
	client  *platform.Client
	service string

	sample, url, account      string
	caFile, certFile, keyFile string
	keepRequestID, deliver    bool
	seed                      uint64

	sent, acked int
}

func (e *env) send() *cobra.Command {
	s := &sender{env: e}
	c := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Send a test callback to a listener, through whatever stands in front of it",
		Long: "Send a test callback to a listener, as the platform would: a generated message, a published sample, the message in FILE, or the\n" +
			"entries that `inbox export` printed, each to its own service. FILE may be - for standard input. Credentials are filled in from\n" +
			"the configuration, and a fresh RequestId, so that it is no duplicate.\n\n" +
			"The message is marked as a test by an HTTP header: it is stored, flagged, and goes to handlers of type log alone. With\n" +
			"--deliver it goes wherever a real one would. The exit code is 1 if any message was not acknowledged.",
		Example: `  callbackd send --service DeviceUsage
  callbackd send --service ResumeTrackingNotification --sample ResumeTrackingNotification
  callbackd send --service DeviceUsage message.xml --url https://callbacks.example.com:28204/ --ca-file ca.pem
  callbackd inbox export 42 | callbackd send - --deliver`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), args) },
	}
	flags := c.Flags()
	flags.StringVar(&s.service, "service", "", "the service to send to; an exported entry goes to its own by default")
	flags.StringVar(&s.sample, "sample", "", "a published sample: "+strings.Join(sampleNames(), " or "))
	flags.StringVar(&s.url, "url", "", "where to send it (default: the service's public_url, or its own listener)")
	flags.StringVar(&s.account, "account", "", "the label of the credentials to use (default: the first that are valid for the service)")
	flags.StringVar(&s.caFile, "ca-file", "", "trust the certificates in this file besides the system's")
	flags.StringVar(&s.certFile, "cert-file", "", "show the certificate in this file, to a listener with client_ca_file")
	flags.StringVar(&s.keyFile, "key-file", "", "the key of that certificate")
	flags.BoolVar(&s.keepRequestID, "keep-request-id", false, "keep the RequestId, so that the message is a duplicate of one that has it")
	flags.BoolVar(&s.deliver, "deliver", false, "deliver it to every handler, as if it were real")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of a generated message (default: random)")
	complete(c, "service", serviceNames())
	complete(c, "sample", sampleNames())
	return c
}

func sampleNames() []string {
	var names []string
	for _, s := range platform.Samples() {
		names = append(names, s.Name)
	}
	return names
}

func (s *sender) run(ctx context.Context, args []string) (err error) {
	if err := s.checkFlags(args); err != nil {
		return err
	}
	if s.config, _, err = s.load(); err != nil {
		return err
	}
	if s.client, err = s.newClient(); err != nil {
		return err
	}
	defer s.client.HTTP.CloseIdleConnections()
	switch {
	case s.sample != "":
		i := slices.Index(sampleNames(), s.sample)
		err = s.post(ctx, callback.Service(s.service), platform.Samples()[i].Body)
	case len(args) > 0:
		err = s.file(ctx, args[0])
	default:
		if s.seed == 0 {
			s.seed = uint64(uuid.New().ID())
		}
		service := callback.Service(s.service)
		err = s.post(ctx, service, platform.NewGenerator(s.seed, platform.Credentials{}, platform.QuirkExtension).Message(service))
	}
	if err != nil {
		return err
	}
	if s.sent > 1 {
		fmt.Fprintf(s.out, "%d sent, %d acknowledged\n", s.sent, s.acked)
	}
	if s.acked < s.sent {
		return errReported
	}
	return nil
}

func (s *sender) checkFlags(args []string) error {
	if s.service != "" && !slices.Contains(serviceNames(), s.service) {
		return usagef("--service %q is none of %s", s.service, strings.Join(serviceNames(), ", "))
	}
	if s.service == "" && len(args) == 0 {
		return usagef("name the service with --service: one of %s", strings.Join(serviceNames(), ", "))
	}
	if s.sample != "" && !slices.Contains(sampleNames(), s.sample) {
		return usagef("--sample %q is none of %s", s.sample, strings.Join(sampleNames(), ", "))
	}
	if s.sample != "" && len(args) > 0 {
		return usagef("give either --sample or a file")
	}
	if (s.certFile == "") != (s.keyFile == "") {
		return usagef("--cert-file and --key-file go together")
	}
	if s.url != "" {
		if u, err := url.Parse(s.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return usagef("--url is not a URL such as https://callbacks.example.com:28204/")
		}
	}
	return nil
}

// file sends what is in a file: lines of `inbox export`, or one message.
func (s *sender) file(ctx context.Context, path string) error {
	in := io.NopCloser(s.in)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		in = f
	}
	defer in.Close()
	r := bufio.NewReader(in)
	switch first, err := firstByte(r); {
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case first == 0:
		return fmt.Errorf("%w: %s is empty", errNotFound, path)
	case first == '{':
		return s.export(ctx, path, r)
	}
	if s.service == "" {
		return usagef("%s holds a message: name the service with --service", path)
	}
	message, err := readMessage(r)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return s.post(ctx, callback.Service(s.service), message)
}

func readMessage(r io.Reader) ([]byte, error) {
	const largest = 64 << 20
	message, err := io.ReadAll(io.LimitReader(r, largest+1))
	if err == nil && len(message) > largest {
		err = fmt.Errorf("the message is larger than %d MiB", largest>>20)
	}
	return message, err
}

// firstByte is the first that is not white space, 0 if there is none. It stays to be read.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		head, err := r.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return 0, nil
		case err != nil:
			return 0, err
		case !bytes.ContainsAny(head, " \t\r\n"):
			return head[0], nil
		}
		if _, err := r.Discard(1); err != nil {
			return 0, err
		}
	}
}

func (s *sender) export(ctx context.Context, path string, r io.Reader) error {
	decoder := json.NewDecoder(r)
	for line := 1; ; line++ {
		var x exported
		if err := decoder.Decode(&x); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s, entry %d: not a line of `inbox export`: %w", path, line, err)
		}
		service := callback.Service(x.Service)
		if s.service != "" {
			service = callback.Service(s.service)
		}
		if x.Payload == "" {
			fmt.Fprintf(s.err, "%s, entry %d: seq %d has no payload any more: passed over\n", path, line, x.Seq)
			continue
		}
		if err := s.post(ctx, service, []byte(x.Payload)); err != nil {
			return fmt.Errorf("%s, entry %d: %w", path, line, err)
		}
	}
}

// post sends one message and prints what came of it. Its error is one that no further message would be spared.
func (s *sender) post(ctx context.Context, service callback.Service, message []byte) error {
	target, credentials, err := s.target(service)
	if err != nil {
		return err
	}
	requestID := uuid.NewString()
	if s.keepRequestID {
		requestID = ""
	}
	body, err := platform.Fill(message, credentials, requestID)
	if err != nil {
		return fmt.Errorf("fill in the credentials: %w", err)
	}
	answer, err := s.client.Post(ctx, target, body)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.sent++
	took := answer.Took.Round(100 * time.Microsecond)
	switch {
	case err != nil:
		fmt.Fprintf(s.out, "%s %s: %s%s\n", service, target, err, adviceOnError(err, strings.HasPrefix(target, "https:"), s.certFile != ""))
	case !answer.Acked():
		fmt.Fprintf(s.out, "%s %s: refused with %d after %s%s\n", service, target, answer.Status, took, adviceOnRefusal(answer))
	default:
		s.acked++
		fmt.Fprintf(s.out, "%s %s: acknowledged with %d after %s\n", service, target, answer.Status, took)
	}
	return nil
}

// turnedAway reports whether the server refused the handshake with one of these alerts, of which crypto/tls exports nothing but the text.
func turnedAway(err error, alerts ...string) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" &&
		slices.ContainsFunc(alerts, func(alert string) bool { return remote.Err.Error() == "tls: "+alert })
}

// adviceOnError says what to do. A server that refuses a client's certificate says so after the handshake, as far as the client can tell, so
// that a client which is writing meanwhile may see a broken connection and no more.
func adviceOnError(err error, secure, showsCertificate bool) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case turnedAway(err, "certificate required"):
		return ": the listener takes clients with a certificate alone: show one with --cert-file and --key-file"
	case turnedAway(err, "bad certificate", "unknown certificate authority", "expired certificate"):
		return ": the certificate of --cert-file is not taken: is it valid, and of an authority in the listener's client_ca_file?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": nothing listens there: does `callbackd serve` run, and does a firewall let this through?"
	case brokenOff(err) && showsCertificate:
		return ": most likely the certificate of --cert-file is not taken: is it valid, and of an authority in the listener's client_ca_file?"
	case brokenOff(err) && secure:
		return ": most likely the listener takes clients with a certificate alone: show one with --cert-file and --key-file"
	case brokenOff(err):
		return ": the connection was broken off: does the listener speak HTTPS, or does something between refuse this?"
	case errors.As(err, &authority):
		return ": name the authority with --ca-file; of the platform it is said that it takes public ones only"
	case errors.As(err, &host):
		return ": the certificate is for another name than that of the URL"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return ": plain HTTP is spoken there: has the listener no tls?"
	}
	return ""
}

func brokenOff(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

func adviceOnRefusal(answer platform.Answer) string {
	text := ""
	if answer.Fault != "" {
		text = ": " + answer.Fault
	}
	switch {
	case answer.Status == http.StatusUnauthorized:
		return text + ": the password sent is not the one that the listener knows: does it run with this configuration?"
	case answer.Status == http.StatusForbidden:
		return text + ": the listener's network.allow has not the address that this comes from, or something in front refuses it"
	case answer.Fault == "":
		return ": whatever answers there is no callbackd, or it speaks HTTPS and was spoken to without"
	}
	return text
}

// target is the URL of a service, and credentials that are valid there.
func (s *sender) target(service callback.Service) (string, platform.Credentials, error) {
	target := s.url
	if target == "" {
		received := s.config.Services[string(service)]
		if received == nil {
			return "", platform.Credentials{}, usagef("the configuration receives no %s: name another service, or the listener with --url", service)
		}
		if target = listenerURL(received); strings.HasSuffix(received.Listen, ":0") && received.PublicURL == "" {
			return "", platform.Credentials{}, usagef("services.%s.listen leaves the port to the system: name the listener with --url", service)
		}
	}
	for _, cred := range s.config.Credentials {
		if (s.account == "" || cred.Label == s.account) && (len(cred.Services) == 0 || slices.Contains(cred.Services, service)) {
			return target, platform.Credentials{Username: cred.Username, Password: cred.Password.Reveal()}, nil
		}
	}
	if s.account == "" && s.config.AllowAnonymous {
		return target, platform.Credentials{}, nil
	}
	if s.account == "" {
		return "", platform.Credentials{}, usagef("no credentials are valid for %s", service)
	}
	return "", platform.Credentials{}, usagef("no credentials with label %q are valid for %s", s.account, service)
}

func listenerURL(s *config.Service) string {
	if s.PublicURL != "" {
		return s.PublicURL
	}
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + s.Path
}

func (s *sender) newClient() (*platform.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the platform uses none of ours
	transport.ForceAttemptHTTP2 = false
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true) // which is what the platform was seen to speak
	var err error
	if transport.TLSClientConfig, err = s.tls(); err != nil {
		return nil, err
	}
	mark := receiver.TestStored
	if s.deliver {
		mark = receiver.TestDelivered
	}
	return &platform.Client{HTTP: &http.Client{Transport: transport}, Headers: http.Header{receiver.TestHeader: {mark}}}, nil
}

// tls is whom send trusts, and what it shows of itself.
func (s *sender) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.caFile != "" {
		var err error
		if c.RootCAs, err = rootsWith(s.caFile); err != nil {
			return nil, err
		}
	}
	if s.certFile == "" {
		return c, nil
	}
	shown, err := os.ReadFile(s.certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(s.keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := certificate.New(shown, key)
	if err != nil {
		return nil, usagef("--cert-file %s, --key-file %s: %w", s.certFile, s.keyFile, err)
	}
	// Shown whatever authorities the listener names, for it tells better than crypto/tls why it refuses one.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair.TLS, nil }
	return c, nil
}
