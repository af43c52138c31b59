package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/counterpart"
	"callbackd/internal/handler"
	"callbackd/internal/thingspace/platform"
)

// nodeModules names the folder with the npm packages of testdata/interop/node.
const nodeModules = "CALLBACKD_NODE_MODULES"

// interop are the SOAP clients that have to get along with what a listener serves. Each is a program that loads a WSDL and calls
// both operations.
var interop = []struct {
	name    string
	command func(t *testing.T) *exec.Cmd
}{
	{"zeep", func(t *testing.T) *exec.Cmd {
		// The system's Python, for that is the one that the system's package python3-zeep belongs to.
		const what = "whether Python's zeep can call a listener by its WSDL"
		python := counterpart.Program(t, "/usr/bin/python3", what)
		if exec.CommandContext(t.Context(), python, "-c", "import zeep").Run() != nil {
			counterpart.Missing(t, "python3-zeep", what)
		}
		return exec.CommandContext(t.Context(), python, "testdata/interop/zeep_client.py")
	}},
	{"PHP SoapClient", func(t *testing.T) *exec.Cmd {
		const what = "whether PHP's SoapClient can call a listener by its WSDL"
		php := counterpart.Program(t, "php", what)
		if exec.CommandContext(t.Context(), php, "-r", "exit(class_exists('SoapClient') ? 0 : 1);").Run() != nil {
			counterpart.Missing(t, "php-soap", what)
		}
		return exec.CommandContext(t.Context(), php, "testdata/interop/php_client.php")
	}},
	{"node soap", func(t *testing.T) *exec.Cmd {
		const what = "whether node's soap can call a listener by its WSDL"
		node := counterpart.Program(t, "node", what)
		modules := os.Getenv(nodeModules)
		if modules == "" {
			counterpart.Missing(t, "npm package soap, in a folder named by "+nodeModules+",", what)
		}
		command := exec.CommandContext(t.Context(), node, "testdata/interop/node/client.js")
		command.Env = append(os.Environ(), "NODE_PATH="+modules)
		return command
	}},
}

// TestSOAPClients has clients that know nothing but the address of the WSDL call a receiver, and looks at what it made of that.
func TestSOAPClients(t *testing.T) {
	t.Parallel()
	for i, client := range interop {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			command := client.command(t)
			in := start(t, base+services(callback.EnhancedConnectivityService)+logAndFile)
			requestID := fmt.Sprintf("5a1e8c5e-0000-4000-8000-%012d", i)
			const text = `two  blanks, <&> "quotes", ü`
			address := in.URL(callback.EnhancedConnectivityService)
			command.Args = append(command.Args, address+"?wsdl", credentials.Username, credentials.Password, requestID, text)
			command.WaitDelay = 5 * time.Second
			if said, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, said, in.Log)
			}
			in.settled()
			in.checkEntries(t, requestID)
			in.checkEvents(t, requestID, text)
		})
	}
}

// checkEntries wants one entry of each operation: done, of the account, and on schema.
func (in *instance) checkEntries(t *testing.T, requestID string) {
	t.Helper()
	entries := in.list()
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Kind, b.Kind) })
	if len(entries) != 2 {
		t.Fatalf("%d entries, want 2: %+v", len(entries), entries)
	}
	for i, want := range []entry{
		{Kind: "SMSDelivery", RequestID: requestID, Devices: []struct{ Kind, Identifier string }{{"mdn", "3124705797"}}},
		{Kind: "SmsMessage", Devices: []struct{ Kind, Identifier string }{{"esn", "60E5F99D"}, {"mdn", "3124705797"}}},
	} {
		e := entries[i]
		if e.Kind != want.Kind || e.RequestID != want.RequestID || e.Account != "main" || e.State != "done" || e.Sightings != 1 {
			t.Errorf("entry is %+v, want %+v", e, want)
		}
		if len(e.Flags) != 0 {
			t.Errorf("%s: flags %v; it is not on schema", e.Kind, e.Flags)
		}
		if !slices.Equal(e.Devices, want.Devices) {
			t.Errorf("%s: devices %v, want %v", e.Kind, e.Devices, want.Devices)
		}
	}
}

// checkEvents wants the values that the client was given, as a handler got them.
func (in *instance) checkEvents(t *testing.T, requestID, text string) {
	t.Helper()
	file, err := os.Open(filepath.Join(in.Dir, "events.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var delivery, message callback.Callback
	for decoder := json.NewDecoder(file); ; {
		var event handler.Event
		if err := decoder.Decode(&event); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if event.Data.Kind == callback.KindSmsMessage {
			message = *event.Data
		} else {
			delivery = *event.Data
		}
	}
	if d := delivery; d.RequestID != requestID || d.SMSDelivery == nil || d.SMSDelivery.Confirmation != text ||
		d.Status == nil || d.Status.Text != "Success" || d.CallbackCount != 1 || d.MaxCallbackThreshold != 4 || len(d.Extra) != 0 {
		t.Errorf("CallbackRequest arrived as %+v", d)
	}
	if m := message; m.SmsMessage == nil || m.SmsMessage.Text != text || len(m.Extra) != 0 {
		t.Errorf("SmsCallbackRequest arrived as %+v", m)
	}
}

// TestWSDLNamesTheAddressThatTheClientUsed fetches the WSDL in different ways and posts to the address in it.
func TestWSDLNamesTheAddressThatTheClientUsed(t *testing.T) {
	t.Parallel()
	in := start(t, base+services(callback.ResumeTrackingNotification)+logAndFile)
	listener := in.URL(callback.ResumeTrackingNotification)
	_, port, _ := strings.Cut(in.Services[callback.ResumeTrackingNotification].String(), ":")
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "callbacks.example.com", "callbacks.example.com:8443", "[2001:db8::1]:28200"} {
		for _, target := range []string{"?wsdl", "?WSDL", "?wsdl=1", "?singleWsdl", "some/path?wsdl"} {
			path, _, _ := strings.Cut(target, "?")
			if got, want := wsdlAddress(t, http.DefaultClient, listener+target, host, nil), "http://"+host+"/"+path; got != want {
				t.Errorf("as %s, %s: address %q, want %q", host, target, got, want)
			}
		}
	}
	// Nobody trusts their sender, so they say nothing.
	forged := http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil.example.com"}, "Forwarded": {"proto=https;host=evil.example.com"}}
	if got, want := wsdlAddress(t, http.DefaultClient, listener+"?wsdl", "localhost:"+port, forged), "http://localhost:"+port+"/"; got != want {
		t.Errorf("with forged headers: address %q, want %q", got, want)
	}
	postsTo(t, http.DefaultClient, wsdlAddress(t, http.DefaultClient, listener+"?wsdl", "127.0.0.1:"+port, nil))
}

// TestWSDLOverTLS does the same with a listener that speaks TLS.
func TestWSDLOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := certificate(t, dir)
	in := startIn(t, dir, base+"services:\n  ResumeTrackingNotification: {listen: 127.0.0.1:0, path: /resume, tls: {cert_file: DIR/tls.crt, key_file: DIR/tls.key}}\n"+logAndFile)
	listener := "https://" + in.Services[callback.ResumeTrackingNotification].String() + "/resume"
	got := wsdlAddress(t, client, listener+"?wsdl", "", nil)
	if got != listener {
		t.Errorf("address %q, want %q", got, listener)
	}
	postsTo(t, client, got)
}

// TestWSDLNamesThePublicURL: what stands in front of the listener has an address that the listener cannot know.
func TestWSDLNamesThePublicURL(t *testing.T) {
	t.Parallel()
	const public = "https://callbacks.example.com/resume"
	in := start(t, base+"services:\n  ResumeTrackingNotification: {listen: 127.0.0.1:0, public_url: '"+public+"'}\n"+logAndFile)
	if got := wsdlAddress(t, http.DefaultClient, in.URL(callback.ResumeTrackingNotification)+"?wsdl", "localhost", nil); got != public {
		t.Errorf("address %q, want %q", got, public)
	}
}

// wsdlAddress fetches a WSDL, under the name host if there is one, and returns the address in it.
func wsdlAddress(t *testing.T, client *http.Client, url, host string, headers http.Header) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	for name, values := range headers {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Fatalf("%s: status %d, content type %q", url, response.StatusCode, response.Header.Get("Content-Type"))
	}
	var definitions struct {
		Address struct {
			Location string `xml:"location,attr"`
		} `xml:"service>port>address"`
	}
	if err := xml.NewDecoder(response.Body).Decode(&definitions); err != nil {
		t.Fatal(err)
	}
	return definitions.Address.Location
}

// postsTo posts the published sample to the address that a WSDL named.
func postsTo(t *testing.T, client *http.Client, url string) {
	t.Helper()
	post := platform.Client{HTTP: client}
	answer, err := post.Post(t.Context(), url, sample(t, "ResumeTrackingNotification"))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != http.StatusOK {
		t.Errorf("%s, which the WSDL names, answers %d: %s", url, answer.Status, answer.Fault)
	}
}

// certificate writes a certificate for loopback and its key to dir, and returns a client that trusts it.
func certificate(t *testing.T, dir string) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}
