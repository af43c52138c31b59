//go:build bench

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
	"callbackd/schemas"

	"github.com/jacoelho/xsd"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The servers run in processes of their own: this test binary, started again in one of these roles.
const (
	roleVariable = "CALLBACKD_BENCH_ROLE"
	roleBaseline = "baseline" // reads the body and answers 200
	roleReceiver = "receiver" // callbackd, durable, with one handler that does nothing
	roleDrainer  = "drainer"  // the same, on a backlog that the handler takes when a line is read
)

const (
	benchRounds  = 5
	benchSpan    = 2 * time.Second
	benchWarmUp  = 300 * time.Millisecond
	targetRatio  = 0.20
	targetP99    = 50 * time.Millisecond
	targetClient = 64
)

// TestBench measures, in one run, the receiver against a server that only reads: alternating rounds on the same machine, both from the
// same load generator, so that the ratio means something where absolute figures do not. It fails only if something was lost.
func TestBench(t *testing.T) {
	switch os.Getenv(roleVariable) {
	case roleBaseline:
		serveBaseline()
		return
	case roleReceiver, roleDrainer:
		serveReceiver(t)
		return
	}
	fmt.Printf("Messages of %d bytes; %d rounds of %s each, medians; load generator on the same cores.\n\n", len(benchMessage()), benchRounds, benchSpan)
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "connections\tread and 200 (1/s)\tdurable acks (1/s)\tratio\tp50 ack\tp99 ack\tCPU/ack\t")
	for _, connections := range []int{1, 16, 64, 256} {
		baseline, receiver := measure(t, connections)
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.2f\t%s\t%s\t%.0f us\t\n", connections, baseline.rate, receiver.rate, receiver.rate/baseline.rate,
			receiver.p50.Round(10*time.Microsecond), receiver.p99.Round(10*time.Microsecond), receiver.cpu)
		if connections == targetClient {
			defer func() {
				fmt.Printf("\nTarget at %d connections: ratio at least %.2f, p99 under %s: ratio %.2f, p99 %s.\n",
					targetClient, targetRatio, targetP99, receiver.rate/baseline.rate, receiver.p99.Round(10*time.Microsecond))
			}()
		}
	}
	_ = w.Flush()
	benchDecode()
	benchDrain(t)
}

// result is the median of the rounds.
type result struct {
	rate     float64
	p50, p99 time.Duration
	cpu      float64 // microseconds of the server for each ack
}

func measure(t *testing.T, connections int) (baseline, receiver result) {
	base := startServer(t, roleBaseline)
	recv := startServer(t, roleReceiver)
	var baseRounds, recvRounds []result
	acked := 0
	for range benchRounds {
		r, _ := load(t, base, connections)
		baseRounds = append(baseRounds, r)
		r, n := load(t, recv, connections)
		recvRounds = append(recvRounds, r)
		acked += n
	}
	base.stop(t)
	recv.stop(t)
	if stored := recv.entries(t); stored < acked {
		t.Errorf("%d connections: %d acknowledged and %d stored", connections, acked, stored)
	}
	return median(baseRounds), median(recvRounds)
}

func median(rounds []result) result {
	pick := func(value func(result) float64) float64 {
		v := make([]float64, len(rounds))
		for i, r := range rounds {
			v[i] = value(r)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return result{
		rate: pick(func(r result) float64 { return r.rate }),
		p50:  time.Duration(pick(func(r result) float64 { return float64(r.p50) })),
		p99:  time.Duration(pick(func(r result) float64 { return float64(r.p99) })),
		cpu:  pick(func(r result) float64 { return r.cpu }),
	}
}

// benchServer is a server under load.
type benchServer struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     *bufio.Reader
	address string
	dir     string
}

func startServer(t *testing.T, role string) *benchServer {
	t.Helper()
	return startServerIn(t, role, t.TempDir())
}

func startServerIn(t *testing.T, role, dir string) *benchServer {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBench$", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "CALLBACKD_BENCH_DIR="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	return &benchServer{cmd: cmd, stdin: stdin, out: reader, address: strings.TrimSpace(line), dir: dir}
}

// open has a drainer begin.
func (s *benchServer) open(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(s.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

// stop ends the server, which waits for the end of its input.
func (s *benchServer) stop(t *testing.T) {
	t.Helper()
	_ = s.stdin.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
}

func (s *benchServer) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick
}

func (s *benchServer) entries(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "entries"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func serveBaseline() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
		}))
	}()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// noop is a handler that does nothing but count, once its gate is open.
type noop struct {
	gate    chan struct{}
	handled atomic.Int64
}

func (n *noop) Handle(ctx context.Context, _ *handler.Delivery) error {
	select {
	case <-n.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.handled.Add(1)
	return nil
}
func (*noop) Close() error                                                 { return nil }
func (*noop) Validate() []error                                            { return nil }
func (n *noop) Open(context.Context, handler.Env) (handler.Handler, error) { return n, nil }

func serveReceiver(t *testing.T) {
	dir := os.Getenv("CALLBACKD_BENCH_DIR")
	sink := &noop{gate: make(chan struct{})}
	text := base + "services: {DeviceUsage: {listen: 127.0.0.1:0}}\nhandlers: {noop: {type: noop}}\nroutes: [{handlers: [noop]}]\n"
	c, problems := config.Parse("bench.yaml", dir, []byte(text), []handler.Type{{Name: "noop", Config: func() handler.Config { return sink }, Concurrency: 4}})
	if problems.Worst() >= config.Fatal {
		t.Fatal(problems)
	}
	log, err := app.NewLogger(c.Log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	fmt.Println(a.Addresses().Services[callback.DeviceUsage])
	in := bufio.NewReader(os.Stdin)
	if os.Getenv(roleVariable) == roleDrainer {
		_, _ = in.ReadString('\n')
	}
	close(sink.gate)
	reportDrain(&sink.handled)
	_, _ = io.Copy(io.Discard, in)
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	countEntries(t, c.DataDir, filepath.Join(dir, "entries"))
	if err := os.WriteFile(filepath.Join(dir, "handled"), []byte(strconv.FormatInt(sink.handled.Load(), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reportDrain prints how many deliveries of the backlog a second were made, when that is done.
func reportDrain(handled *atomic.Int64) {
	if os.Getenv(roleVariable) != roleDrainer {
		return
	}
	go func() { // ends with the process
		from, look := time.Now(), time.NewTicker(time.Millisecond)
		defer look.Stop()
		for handled.Load() < backlog {
			<-look.C
		}
		fmt.Printf("%.0f\n", backlog/time.Since(from).Seconds())
	}()
}

// backlog is how many deliveries wait when a drain begins.
const backlog = 60_000

// benchDrain measures how fast a backlog of deliveries to a handler that does nothing drains, alone, and what that costs the acks.
func benchDrain(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	fillBacklog(t, full)
	var alone, idle, draining, beside []float64
	for range 3 {
		alone = append(alone, drainAlone(t, full))
		acks, _ := acksBeside(t, t.TempDir(), roleReceiver)
		idle = append(idle, acks)
		acks, delivered := acksBeside(t, copied(t, full), roleDrainer)
		draining, beside = append(draining, acks), append(beside, delivered)
	}
	for _, rates := range [][]float64{alone, idle, draining, beside} {
		slices.Sort(rates)
	}
	fmt.Printf("\nA backlog of %d deliveries to a handler that does nothing drains at %.0f deliveries/s; target 20000.\n", backlog, alone[1])
	fmt.Printf("Durable acks at %d connections: %.0f/s without a backlog, %.0f/s while one drains, at %.0f deliveries/s: ratio %.2f; target 0.80.\n",
		targetClient, idle[1], draining[1], beside[1], draining[1]/idle[1])
}

// fillBacklog makes an inbox with the backlog.
func fillBacklog(t *testing.T, dir string) {
	t.Helper()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: data, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry()), NoReceiver: true})
	if err != nil {
		t.Fatal(err)
	}
	message := benchMessage()
	next := make(chan int)
	var senders sync.WaitGroup
	for range targetClient {
		senders.Go(func() {
			for n := range next {
				if _, err := store.Append(context.Background(), inbox.Arrival{Handlers: []string{"noop"}, Entry: inbox.Entry{
					ReceivedAt: time.Now(), Service: "DeviceUsage", Kind: "Usage", Account: "main", RequestID: fmt.Sprint(n), Body: message,
					Facts: inbox.Facts{Devices: []inbox.Device{{Kind: "mdn", Identifier: fmt.Sprint(n)}}, Source: "127.0.0.1", Root: "CallbackRequest"},
				}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range backlog {
		next <- n
	}
	close(next)
	senders.Wait()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// copied is a copy of a prepared folder.
func copied(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// drainAlone measures a drain with no other load.
func drainAlone(t *testing.T, full string) (perSecond float64) {
	s := startServerIn(t, roleDrainer, copied(t, full))
	s.open(t)
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	perSecond, err = strconv.ParseFloat(strings.TrimSpace(line), 64)
	if err != nil {
		t.Fatal(err)
	}
	return perSecond
}

// acksBeside measures acks, of a drainer while it drains, and how many deliveries a second were made beside them.
func acksBeside(t *testing.T, dir, role string) (acks, delivered float64) {
	s := startServerIn(t, role, dir)
	s.open(t)
	from := time.Now()
	r, _ := load(t, s, targetClient)
	took := time.Since(from)
	s.stop(t)
	text, err := os.ReadFile(filepath.Join(dir, "handled"))
	if err != nil {
		t.Fatal(err)
	}
	handled, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		t.Fatal(err)
	}
	return r.rate, handled / took.Seconds()
}

// requestIDMark stands where each request writes its own RequestId.
const requestIDMark = "00000000-0000-4000-8000-000000000000"

func benchMessage() []byte {
	g := platform.NewGenerator(3, credentials, platform.AllQuirks)
	message, err := platform.Fill(g.Message(callback.DeviceUsage), credentials, requestIDMark)
	if err != nil {
		panic(err)
	}
	return message
}

// load sends as fast as the answers come, over so many connections, and counts what was acknowledged.
func load(t *testing.T, s *benchServer, connections int) (result, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), benchWarmUp+benchSpan)
	defer cancel()
	from := time.Now().Add(benchWarmUp)
	took := make([][]time.Duration, connections)
	total := make([]int, connections)
	var cpuFrom time.Duration
	timer := time.AfterFunc(benchWarmUp, func() { cpuFrom = s.cpu() })
	defer timer.Stop()
	var senders sync.WaitGroup
	for n := range connections {
		senders.Go(func() {
			var err error
			if took[n], total[n], err = sendLoop(ctx, s.address, from); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	senders.Wait()
	cpu := s.cpu() - cpuFrom
	all := slices.Concat(took...)
	slices.Sort(all)
	acked := 0
	for _, n := range total {
		acked += n
	}
	if len(all) == 0 {
		return result{}, acked
	}
	return result{rate: float64(len(all)) / benchSpan.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100],
		cpu: float64(cpu.Microseconds()) / float64(len(all))}, acked
}

var benchSequence struct {
	sync.Mutex
	next int
}

// sendLoop is one connection. It speaks just enough HTTP to cost little.
func sendLoop(ctx context.Context, address string, from time.Time) (took []time.Duration, acked int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	body := benchMessage()
	request := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	at := bytes.Index(request, []byte(requestIDMark))
	in := bufio.NewReader(conn)
	benchSequence.Lock()
	benchSequence.next++
	sender := benchSequence.next
	benchSequence.Unlock()
	for n := 0; ctx.Err() == nil; n++ {
		copy(request[at:], fmt.Sprintf("%08x-0000-4000-8000-%012x", sender, n))
		began := time.Now()
		if _, err := conn.Write(request); err != nil {
			return took, acked, err
		}
		status, err := readAnswer(in)
		if err != nil {
			return took, acked, err
		}
		if status != http.StatusOK {
			return took, acked, fmt.Errorf("status %d", status)
		}
		acked++
		if !began.Before(from) {
			took = append(took, time.Since(began))
		}
	}
	return took, acked, nil
}

func readAnswer(in *bufio.Reader) (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch {
		case first:
			if len(line) < 12 {
				return 0, errors.New("no HTTP answer")
			}
			status, _ = strconv.Atoi(string(line[9:12]))
		case len(line) == 2:
			_, err := in.Discard(length)
			return status, err
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[16:])))
		}
	}
}

// benchDecode compares reading and checking one message with what one would take instead.
func benchDecode() {
	message := benchMessage()
	validator, err := thingspace.NewSecondOpinion()
	if err != nil {
		panic(err)
	}
	read := func() *thingspace.Message {
		m, err := thingspace.Read(bytes.Clone(message), thingspace.ReadOptions{})
		if err != nil {
			panic(err)
		}
		return m
	}
	session := xsdSession()
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "one message\ttime\tallocations\tratio to encoding/xml\t")
	var reference float64
	for _, b := range []struct {
		name string
		run  func()
	}{
		{"encoding/xml, into structs", func() {
			var e usageEnvelope
			if err := xml.Unmarshal(message, &e); err != nil || e.Usage.BytesUsed == "" {
				panic(err)
			}
		}},
		{"encoding/xml, tokens only", func() { xmlTokens(message) }},
		{"jacoelho/xsd, validation only", func() {
			if err := session.Validate(context.Background(), bytes.NewReader(message)); err != nil {
				panic(err)
			}
		}},
		{"callbackd, decode", func() { read() }},
		{"callbackd, decode and validate", func() {
			if _, err := validator.Validate(context.Background(), read()); err != nil {
				panic(err)
			}
		}},
	} {
		r := testing.Benchmark(func(b2 *testing.B) {
			b2.ReportAllocs()
			for b2.Loop() {
				b.run()
			}
		})
		if reference == 0 {
			reference = float64(r.NsPerOp())
		}
		fmt.Fprintf(w, "%s\t%.1f us\t%d\t%.2f\t\n", b.name, float64(r.NsPerOp())/1e3, r.AllocsPerOp(), float64(r.NsPerOp())/reference)
	}
	_ = w.Flush()
}

// usageEnvelope is what one would write to read the same message with encoding/xml: the members that it has, and no check at all.
type usageEnvelope struct {
	Username  string `xml:"Body>CallbackRequest>Username"`
	Password  string `xml:"Body>CallbackRequest>Password"`
	RequestID string `xml:"Body>CallbackRequest>RequestId"`
	Devices   []struct {
		Kind       string
		Identifier string
	} `xml:"Body>CallbackRequest>Device"`
	Usage struct {
		BytesUsed   string
		SmsUsed     string
		ServicePlan string
		Source      string
		Timestamp   string
	} `xml:"Body>CallbackRequest>Data>Usage"`
}

func xmlTokens(message []byte) {
	d := xml.NewDecoder(bytes.NewReader(message))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			panic(err)
		}
	}
}

func xsdSession() *xsd.Session {
	var sources []xsd.SchemaSource
	for _, name := range []string{schemas.Envelope11, schemas.Callback} {
		text, err := schemas.FS.ReadFile(name)
		if err != nil {
			panic(err)
		}
		sources = append(sources, xsd.Bytes(name, text))
	}
	engine, err := xsd.Compile(context.Background(), sources...)
	if err != nil {
		panic(err)
	}
	session, err := engine.NewSession(xsd.ValidateOptions{})
	if err != nil {
		panic(err)
	}
	return session
}

// countEntries writes how many entries the inbox holds, once the receiver has stopped.
func countEntries(t *testing.T, dataDir, file string) {
	t.Helper()
	r, err := sqlite.OpenReader(t.Context(), dataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stats, err := r.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strconv.FormatInt(stats.Entries, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}
