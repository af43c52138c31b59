package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/receiver"
	"callbackd/internal/thingspace/platform"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// sendFlags are what `send` sends, and where to.
type sendFlags struct {
	service, sample, file, export string
	url, account, caFile          string
	keepRequestID, deliver        bool
	seed                          uint64
}

func (e *env) send() *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use:   "send --service NAME",
		Short: "Send a test callback to a listener, through whatever stands in front of it",
		Long: "Send a test callback to a listener, as the platform would: a published sample or a generated one, a file, or entries that\n" +
			"`inbox export` printed. Credentials are filled in from the configuration.\n\n" +
			"The message is marked as a test by an HTTP header: it is stored, flagged, and goes to handlers of type log alone. With\n" +
			"--deliver it goes wherever a real one would.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.runSend(cmd.Context(), &f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.service, "service", "", "the service to send to")
	flags.StringVar(&f.sample, "sample", "", "a published sample: ResumeTrackingNotification or SmsCallbackRequest (default: a generated message)")
	flags.StringVar(&f.file, "file", "", "a file with one message; - is standard input")
	flags.StringVar(&f.export, "export", "", "a file with lines of `inbox export`; - is standard input; each goes to its own service")
	flags.StringVar(&f.url, "url", "", "where to send it (default: the service's public_url, or its own listener)")
	flags.StringVar(&f.account, "account", "", "the label of the credentials to use (default: the first that are valid for the service)")
	flags.StringVar(&f.caFile, "ca-file", "", "trust the certificates in this file besides the system's")
	flags.BoolVar(&f.keepRequestID, "keep-request-id", false, "keep the RequestId of a sample, a file or an export, so that it is a duplicate of what has it")
	flags.BoolVar(&f.deliver, "deliver", false, "deliver it to every handler, as if it were real")
	flags.Uint64Var(&f.seed, "seed", 0, "seed of a generated message (default: random)")
	c.MarkFlagsMutuallyExclusive("sample", "file", "export")
	return c
}

// outgoing is a message to send.
type outgoing struct {
	service callback.Service
	body    []byte
}

func (e *env) runSend(ctx context.Context, f *sendFlags) error {
	c, _, err := e.load()
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	failed := 0
	err = e.messages(f, func(m outgoing) error {
		target, credentials, err := f.target(c, m.service)
		if err != nil {
			return err
		}
		requestID := uuid.NewString()
		if f.keepRequestID {
			requestID = ""
		}
		body, err := platform.Fill(m.body, credentials, requestID)
		if err != nil {
			return fmt.Errorf("fill in credentials: %w", err)
		}
		answer, err := client.Post(ctx, target, body)
		switch {
		case err != nil:
			failed++
			fmt.Fprintf(e.out, "%s %s: %s\n", m.service, target, err)
		case !answer.Acked():
			failed++
			fmt.Fprintf(e.out, "%s %s: refused with %d after %s: %s\n", m.service, target, answer.Status, answer.Took.Round(100e3), answer.Fault)
		default:
			fmt.Fprintf(e.out, "%s %s: acknowledged with %d after %s\n", m.service, target, answer.Status, answer.Took.Round(100e3))
		}
		return nil
	})
	if err == nil && failed > 0 {
		err = errReported
	}
	return err
}

// messages hands over what is to be sent.
func (e *env) messages(f *sendFlags, send func(outgoing) error) error {
	if f.export != "" {
		return e.exportedMessages(f, send)
	}
	info, ok := callback.Lookup(f.service)
	if !ok {
		return usagef("name the service with --service: one of %s", strings.Join(names(), ", "))
	}
	m := outgoing{service: info.Service}
	switch {
	case f.sample != "":
		i := slices.IndexFunc(platform.Samples(), func(s platform.Sample) bool { return s.Name == f.sample })
		if i < 0 {
			return usagef("--sample %q is none of ResumeTrackingNotification, SmsCallbackRequest", f.sample)
		}
		m.body = platform.Samples()[i].Body
	case f.file != "":
		in, err := e.open(f.file)
		if err != nil {
			return err
		}
		defer in.Close()
		if m.body, err = io.ReadAll(in); err != nil {
			return err
		}
	default:
		seed := f.seed
		if seed == 0 {
			seed = uint64(uuid.New().ID())
		}
		m.body = platform.NewGenerator(seed, platform.Credentials{}).Message(info.Service)
	}
	return send(m)
}

func names() []string {
	var list []string
	for _, info := range callback.Catalogue() {
		list = append(list, string(info.Service))
	}
	return list
}

func (e *env) open(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(e.in), nil
	}
	return os.Open(path)
}

func (e *env) exportedMessages(f *sendFlags, send func(outgoing) error) error {
	in, err := e.open(f.export)
	if err != nil {
		return err
	}
	defer in.Close()
	decoder := json.NewDecoder(bufio.NewReader(in))
	for line := 1; ; line++ {
		var x exported
		if err := decoder.Decode(&x); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("export, line %d: %w", line, err)
		}
		service := callback.Service(x.Service)
		if f.service != "" {
			service = callback.Service(f.service)
		}
		if err := send(outgoing{service, []byte(x.Payload)}); err != nil {
			return fmt.Errorf("export, line %d: %w", line, err)
		}
	}
}

// target is the URL of a service, and credentials that are valid there.
func (f *sendFlags) target(c *config.Config, service callback.Service) (string, platform.Credentials, error) {
	s := c.Services[string(service)]
	if s == nil {
		return "", platform.Credentials{}, usagef("the configuration receives no %s", service)
	}
	target := f.url
	if target == "" {
		target = listenerURL(s)
	}
	for _, cred := range c.Credentials {
		if (f.account == "" || cred.Label == f.account) && (len(cred.Services) == 0 || slices.Contains(cred.Services, service)) {
			return target, platform.Credentials{Username: cred.Username, Password: cred.Password.Reveal()}, nil
		}
	}
	if f.account == "" && c.AllowAnonymous {
		return target, platform.Credentials{}, nil
	}
	return "", platform.Credentials{}, usagef("no credentials with label %q are valid for %s", f.account, service)
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

func (f *sendFlags) client() (*platform.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the platform uses none of ours
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, err
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usagef("--ca-file %s holds no certificate", f.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	mark := receiver.TestStored
	if f.deliver {
		mark = receiver.TestDelivered
	}
	return &platform.Client{HTTP: &http.Client{Transport: transport}, Headers: http.Header{receiver.TestHeader: {mark}}}, nil
}
