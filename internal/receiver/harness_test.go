package receiver_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/receiver"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// patience bounds every wait of a test; none is meant to come near it.
const patience = 30 * time.Second

// rig is a receiver with a real inbox, on loopback ports.
type rig struct {
	t        *testing.T
	registry *prometheus.Registry
	log      *logBuffer
	dir      string
	store    *sqlite.Store
	gates    *auth.Metrics
	receiver *receiver.Receiver
	options  receiver.Options
	addrs    []string
	base     map[string]float64 // what counted leaves out
	client   *http.Client
	stop     func() error // drains, once
}

// service is one of the catalogue, quarantining.
func service(name callback.Service) receiver.Service {
	info, ok := callback.Lookup(string(name))
	if !ok {
		panic("no service " + name)
	}
	return receiver.Service{Info: info, Validation: receiver.Quarantine, Path: "/"}
}

// listener is one on a port of the system's choice.
func listener(t *testing.T, services ...receiver.Service) receiver.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the server has closed it, most often
	return receiver.Listener{Listener: l, Services: services}
}

// start runs a receiver until the test ends; without listeners among the options, one for ResumeTrackingNotification.
func start(t *testing.T, edits ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, registry: prometheus.NewRegistry(), log: &logBuffer{}, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{}}}
	log := r.log.logger()
	var err error
	r.store, err = sqlite.Open(t.Context(), sqlite.Options{Dir: r.dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(r.registry)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	if _, err := r.store.Register(t.Context(), []string{"events", "log"}); err != nil {
		t.Fatal(err)
	}
	opinion, err := opinionOnce()
	if err != nil {
		t.Fatal(err)
	}
	r.gates = auth.NewMetrics(r.registry)
	r.options = receiver.Options{
		Store: r.store, SecondOpinion: opinion, Route: route, Log: log, Metrics: receiver.NewMetrics(r.registry),
		Credentials: new(atomic.Pointer[auth.CredentialGate]), Network: new(atomic.Pointer[auth.NetworkGate]),
	}
	r.credentials(false, auth.Credential{Label: "main", ID: "2026", Username: "acme", Password: auth.NewPassword(password)})
	r.network(auth.Config{})
	for _, edit := range edits {
		edit(r)
	}
	if r.options.Listeners == nil {
		r.options.Listeners = []receiver.Listener{listener(t, service(callback.ResumeTrackingNotification))}
	}
	if r.receiver, err = receiver.New(r.options); err != nil {
		t.Fatal(err)
	}
	for _, l := range r.options.Listeners {
		r.addrs = append(r.addrs, l.Listener.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.receiver.Run(ctx, patience) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return r
}

// on is the rig for a subtest.
func (r *rig) on(t *testing.T) *rig {
	r.t = t
	return r
}

var opinionOnce = sync.OnceValues(thingspace.NewSecondOpinion)

func route(_ callback.Service, _ callback.Kind, test receiver.TestMode) []string {
	if test == receiver.Test {
		return []string{"log"}
	}
	return []string{"events", "log"}
}

func (r *rig) credentials(anonymous bool, pairs ...auth.Credential) {
	r.t.Helper()
	gate, err := auth.NewCredentialGate(pairs, anonymous, r.gates)
	if err != nil {
		r.t.Fatal(err)
	}
	r.options.Credentials.Store(gate)
}

func (r *rig) network(c auth.Config) {
	r.t.Helper()
	gate, err := auth.NewNetworkGate(c, c.Mode == "", r.gates, r.log.logger())
	if err != nil {
		r.t.Fatal(err)
	}
	r.options.Network.Store(gate)
}

// wrap puts something between the receiver and its inbox.
func wrap(f func(ctx context.Context, a inbox.Arrival, next receiver.Store) (inbox.Receipt, error)) func(*rig) {
	return func(r *rig) { r.options.Store = storeFunc{f, r.options.Store} }
}

type storeFunc struct {
	f    func(context.Context, inbox.Arrival, receiver.Store) (inbox.Receipt, error)
	next receiver.Store
}

func (s storeFunc) Append(ctx context.Context, a inbox.Arrival) (inbox.Receipt, error) {
	return s.f(ctx, a, s.next)
}

func (r *rig) url() string { return "http://" + r.addrs[0] + "/" }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // the connection with it
}

// post sends a message as the platform would.
func (r *rig) post(message string, header ...string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, r.url(), message, append([]string{"Content-Type", "text/xml; charset=utf-8", "SOAPAction", `""`}, header...)...)
}

func (r *rig) do(method, url, body string, header ...string) answer {
	r.t.Helper()
	return r.doWith(r.client, method, url, body, header...)
}

func (r *rig) doWith(client *http.Client, method, url, body string, header ...string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	return read(r.t, response)
}

func read(t *testing.T, response *http.Response) answer {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return answer{response.StatusCode, response.Header, string(body), response.Close}
}

// conn is a connection spoken to by hand.
type conn struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (r *rig) dial() *conn { return dial(r.t, r.addrs[0]) }

func dial(t *testing.T, addr string) *conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // again, perhaps
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &conn{t, c, bufio.NewReader(c)}
}

// send writes lines, each ended as HTTP ends them, and then a body.
func (c *conn) send(body string, lines ...string) {
	c.t.Helper()
	text := body
	if len(lines) > 0 {
		text = strings.Join(lines, "\r\n") + "\r\n\r\n" + body
	}
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer reads the next answer on the connection.
func (c *conn) answer() answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	return read(c.t, response)
}

// hangUp ends the sending side of the connection.
func (c *conn) hangUp() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// occupy opens n connections, each with a request of so many bytes that takes its memory, twice its size, and does not go on.
func (r *rig) occupy(n int, bytes int64) []*conn {
	r.t.Helper()
	var stalled []*conn
	for range n {
		c := r.dial()
		c.send("<", usual(int(bytes)-1)...)
		stalled = append(stalled, c)
	}
	r.eventually("the memory is taken", func() bool { return r.metric("callbackd_in_flight_bytes") >= float64(2*int64(n)*bytes) })
	return stalled
}

// ended checks that the other side closes the connection, with nothing more to say.
func (c *conn) ended() {
	c.t.Helper()
	rest, err := io.ReadAll(c.in)
	if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		c.t.Errorf("the connection stays open: %v", err)
	}
	if len(rest) > 0 {
		c.t.Errorf("further bytes on the connection: %q", rest)
	}
}

// usual is the head of a request that announces n bytes.
func usual(n int, more ...string) []string {
	lines := []string{"POST / HTTP/1.1", "Host: callbackd", fmt.Sprintf("Content-Length: %d", n)}
	if !strings.Contains(strings.Join(more, "\n"), "Content-Type") {
		lines = append(lines, "Content-Type: text/xml")
	}
	return append(lines, more...)
}

// entries lists the inbox, bodies included.
func (r *rig) entries() []inbox.Entry {
	r.t.Helper()
	list, err := r.store.Find(r.t.Context(), inbox.Query{Body: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// handlers are those that an entry is to be delivered to.
func (r *rig) handlers(seq int64) []string {
	r.t.Helper()
	deliveries, err := r.store.Deliveries(r.t.Context(), seq)
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, d := range deliveries {
		names = append(names, d.Handler)
	}
	return names
}

// scrape is the exposition of all metrics.
func (r *rig) scrape() string {
	r.t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		r.t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples are the values of a metric by their labels, as exposed: service="DeviceUsage",reason="path".
func (r *rig) samples(name string) map[string]float64 {
	r.t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(r.scrape()) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		i := strings.LastIndexByte(rest, ' ')
		value, err := strconv.ParseFloat(rest[i+1:], 64)
		if err != nil {
			r.t.Fatalf("metric %s: %v", line, err)
		}
		samples[strings.Trim(rest[:i], "{}")] = value
	}
	if len(samples) == 0 {
		r.t.Fatalf("no metric %s", name)
	}
	return samples
}

// metric is the sum of the samples that have the label, if one is given: service="DeviceUsage".
func (r *rig) metric(name string, label ...string) float64 {
	r.t.Helper()
	sum := 0.0
	for labels, value := range r.samples(name) {
		if len(label) == 0 || strings.Contains(labels, label[0]) {
			sum += value
		}
	}
	return sum
}

// counts are what has been counted of requests, by how they ended.
func (r *rig) counts() map[string]float64 {
	counts := map[string]float64{"ack": r.metric("callbackd_acks_total"), "wsdl": r.metric("callbackd_wsdl_requests_total")}
	for labels, value := range r.samples("callbackd_refusals_total") {
		counts[label(labels, "reason")] += value
	}
	return counts
}

// label is the value of a label among those that samples returns.
func label(labels, name string) string {
	_, value, _ := strings.Cut(labels, name+`="`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// forget makes counted begin anew.
func (r *rig) forget() {
	r.log.reset()
	r.base = r.counts()
}

// counted checks how the requests ended: "ack", "wsdl", or the reason of a refusal.
func (r *rig) counted(ends ...string) {
	r.t.Helper()
	total := float64(len(ends))
	for _, n := range r.base {
		total += n
	}
	r.eventually(fmt.Sprintf("%v requests", total), func() bool { return r.metric("callbackd_requests_total") >= total })
	if got := r.metric("callbackd_requests_total"); got != total {
		r.t.Errorf("%v requests, want %v", got, total)
	}
	more := r.counts()
	for end, n := range r.base {
		more[end] -= n
	}
	for _, end := range ends {
		more[end]--
	}
	for end, n := range more {
		if n != 0 {
			r.t.Errorf("%+v requests ended with %q beside those that were to", n, end)
		}
	}
}

// eventually waits for what no event tells.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("never came to pass: %s", what)
		}
	}
}

// logBuffer is a log as it would be written, without the times.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// lines are those that hold text.
func (l *logBuffer) lines(text string) []string {
	var lines []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func (l *logBuffer) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		LevelKey: "level", MessageKey: "msg", EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	}), zapcore.AddSync(l), zapcore.DebugLevel))
}

const (
	password  = "s3cret-pass"
	requestID = "2c90bd28-ece4-42ef-9f02-7e3bd4fbff33"
)

// message is a valid ResumeTrackingNotification; each pair of edits replaces the first by the second, which MUST be there.
func message(edits ...string) string {
	const valid = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">
<CallbackRequest xmlns="http://nphase.com/unifiedwebservice/v2">
<Username>acme</Username>
<Password>` + password + `</Password>
<RequestId>` + requestID + `</RequestId>
<Device>
<Kind>Mdn</Kind>
<Identifier>3124705797</Identifier>
</Device>
<Data>
<CarrierService xsi:nil="true"/>
<Comment>Device will be auto resumed on - 3/15/2017 12:00:00 AM</Comment>
<Summary xsi:nil="true"/>
</Data>
</CallbackRequest>
</s:Body>
</s:Envelope>
`
	return edit(valid, edits...)
}

func edit(text string, edits ...string) string {
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			panic("nothing to edit: " + edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], -1)
	}
	return text
}

// attempt adds the counters of an attempt.
func attempt(count, most int) []string {
	return []string{"</Data>", fmt.Sprintf("</Data><CallbackCount>%d</CallbackCount><MaxCallbackThreshold>%d</MaxCallbackThreshold>", count, most)}
}

// soap12 turns a message into one of SOAP 1.2.
func soap12(text string) string { return edit(text, soap.Namespace11, soap.Namespace12) }

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, text)
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.String()
}

// wrongChecksum is gzip whose content is not what its trailer says.
func wrongChecksum(text string) string {
	z := []byte(gzipped(text))
	z[len(z)-8] ^= 1 // of the CRC, which stands before the length
	return string(z)
}

// chunked is a body in two chunks.
func chunked(text string) string {
	half := len(text) / 2
	return fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", half, text[:half], len(text)-half, text[half:])
}

// golden compares with a file of testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}
