package nats_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/nats"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const subject, stream = "callbacks.usage", "CALLBACKS"

// serve starts a server with JetStream on disk. The configuration may set what it likes but the folder of that.
func serve(t testing.TB, configuration string) *server.Server {
	t.Helper()
	if !strings.Contains(configuration, "store_dir") {
		configuration += fmt.Sprintf("\njetstream { store_dir: %q, max_file_store: 100MB, max_memory_store: 10MB }", t.TempDir())
	}
	if !strings.Contains(configuration, "listen:") {
		configuration += "\nlisten: \"127.0.0.1:-1\""
	}
	opts, err := server.ProcessConfigFile(write(t, "nats.conf", configuration))
	if err != nil {
		t.Fatal(err)
	}
	opts.ConfigFile, opts.NoSigs, opts.NoLog = "", true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stop(s) })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// again starts a server that was stopped, in the same place.
func again(t testing.TB, address, store string) *server.Server {
	t.Helper()
	return serve(t, fmt.Sprintf("listen: %q\njetstream { store_dir: %q }", address, store))
}

// operator is an operator's access to the streams of a server.
func operator(t testing.TB, s *server.Server, opts ...client.Option) jetstream.JetStream {
	t.Helper()
	conn, err := client.Connect(s.ClientURL(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func create(t testing.TB, js jetstream.JetStream, change func(*jetstream.StreamConfig)) jetstream.Stream {
	t.Helper()
	config := jetstream.StreamConfig{Name: stream, Subjects: []string{"callbacks.>"}}
	if change != nil {
		change(&config)
	}
	made, err := js.CreateOrUpdateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// served starts a server that has a stream.
func served(t testing.TB) (*server.Server, jetstream.JetStream) {
	t.Helper()
	s := serve(t, "")
	js := operator(t, s)
	create(t, js, nil)
	return s, js
}

// configured is the configuration by default, with what a handler needs to publish to the server.
func configured(servers ...string) *nats.Config {
	c := nats.Type().Config().(*nats.Config)
	c.Servers, c.Subject = servers, subject
	c.Hurry(20*time.Millisecond, 50*time.Millisecond)
	return c
}

func environment() handler.Env {
	return handler.Env{Name: "events", Log: zap.NewNop(), Registerer: prometheus.NewRegistry()}
}

func openWith(t testing.TB, c *nats.Config, env handler.Env) handler.Handler {
	t.Helper()
	if problems := c.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	h, err := c.Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t testing.TB, c *nats.Config) handler.Handler {
	t.Helper()
	return openWith(t, c, environment())
}

func ready(h handler.Handler) error { return h.(handler.Readier).Ready() }

// until waits for what is to come about by itself.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

// untilReady waits for an error with the text, or for none.
func untilReady(t testing.TB, h handler.Handler, text string) {
	t.Helper()
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("ready says %v", last)
		}
	}()
	until(t, "ready says "+text, func() bool {
		last = ready(h)
		return last == nil && text == "" || last != nil && text != "" && strings.Contains(last.Error(), text)
	})
}

// consume reads n messages of the stream, and makes sure that there is no other.
func consume(t testing.TB, js jetstream.JetStream, n int) (messages []jetstream.Msg) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if have := s.CachedInfo().State.Msgs; have != uint64(n) {
		t.Fatalf("%d messages, want %d", have, n)
	}
	consumer, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	return messages
}

// numbered is a delivery of its own.
func numbered(i int) *handler.Delivery {
	d := handlertest.Delivery(callback.KindUsage)
	d.ID, d.Seq = fmt.Sprintf("0195a3c8-7b1e-7c44-9a55-%012x.events", i), int64(i)
	return d
}

// refused is the address of a server that is not there.
func refused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "nats://" + l.Addr().String()
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSuite(t *testing.T) {
	t.Parallel()
	s, _ := served(t) // whose goroutines are none of a handler's
	handlertest.Run(t, handlertest.Subject{
		Type: nats.Type(),
		Open: func(t testing.TB, env handler.Env) handler.Handler {
			return openWith(t, configured(s.ClientURL()), env)
		},
		Broken: func(t testing.TB, env handler.Env) handler.Handler {
			return openWith(t, configured(refused(t)), env)
		},
	})
}

func TestAMessageIsTheEvent(t *testing.T) {
	t.Parallel()
	for _, mode := range []nats.Mode{nats.Structured, nats.Binary} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s, js := served(t)
			config := configured(s.ClientURL())
			config.Mode = mode
			h := open(t, config)
			deliveries := handlertest.Deliveries()
			deliveries[0].Account = `fl€et "eu" 100%`
			for _, d := range deliveries {
				if err := h.Handle(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			for i, m := range consume(t, js, len(deliveries)) {
				e := deliveries[i].Event()
				if got := m.Headers().Get(client.MsgIdHdr); got != e.ID {
					t.Errorf("Nats-Msg-Id is %q, want %q", got, e.ID)
				}
				if mode == nats.Structured {
					checkStructured(t, m, e)
				} else {
					checkBinary(t, m, e)
				}
			}
		})
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

func checkStructured(t *testing.T, m jetstream.Msg, e handler.Event) {
	t.Helper()
	if want := marshal(t, e); !bytes.Equal(m.Data(), want) {
		t.Errorf("payload is %s, want %s", m.Data(), want)
	}
	var cloud event.Event
	if err := json.Unmarshal(m.Data(), &cloud); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Validate(); err != nil {
		t.Error(err)
	}
	want := attributes(t, e)
	delete(want, "ce-specversion") // by which the SDKs tell binary mode
	delete(want, "ce-datacontenttype")
	want["Content-Type"] = "application/cloudevents+json"
	checkHeaders(t, m, want)
}

func checkBinary(t *testing.T, m jetstream.Msg, e handler.Event) {
	t.Helper()
	if want := marshal(t, e.Data); !bytes.Equal(m.Data(), want) {
		t.Errorf("payload is %s, want %s", m.Data(), want)
	}
	checkHeaders(t, m, attributes(t, e))
}

func attributes(t testing.TB, e handler.Event) map[string]string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(marshal(t, e), &members); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, value := range members {
		if name != "data" {
			want["ce-"+name] = fmt.Sprint(value)
		}
	}
	return want
}

// checkHeaders holds the headers, percent-decoded, against what they are to be.
func checkHeaders(t *testing.T, m jetstream.Msg, want map[string]string) {
	t.Helper()
	want[client.MsgIdHdr] = m.Headers().Get(client.MsgIdHdr)
	if len(m.Headers()) != len(want) {
		t.Errorf("headers are %v, want %v", m.Headers(), want)
	}
	for name, value := range want {
		raw := m.Headers().Get(name)
		if got, err := url.PathUnescape(raw); err != nil || got != value || strings.ContainsAny(raw, "\" €") {
			t.Errorf("header %s is %q, want %q", name, raw, value)
		}
	}
}

// TestATracedMessageNamesItsAttempt: the consumer's spans can stand beneath the attempt's.
func TestATracedMessageNamesItsAttempt(t *testing.T) {
	t.Parallel()
	s, js := served(t)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}, TraceFlags: trace.FlagsSampled})
	const want = "00-ab000000000000000000000000000000-cd00000000000000-01"
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	if err := open(t, configured(s.ClientURL())).Handle(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, js, 1)[0].Headers().Get("traceparent"); got != want {
		t.Errorf("traceparent is %q, want %q", got, want)
	}
}

func TestTheTemplateChoosesTheSubject(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	js := operator(t, s)
	create(t, js, func(c *jetstream.StreamConfig) {
		c.Subjects = []string{"thingspace.>", "main.*", "a.*", "b.*", "c.*", "d.*"}
	})
	for i, test := range []struct{ template, account, want string }{
		{"thingspace.{service}.{kind}", "main", "thingspace.DeviceUsage.Usage"},
		{"{account}.{kind}-v1", "main", "main.Usage-v1"},
		{"a.{account}", "fleet eu.1/*.>ü", "a.fleet-eu-1-----"},
		{"b.{account}", "..", "b.--"},
		{"c.{account}", "", "c.-"},
		{"d.{account}", strings.Repeat("a", 65), "d." + strings.Repeat("a", 64)},
	} {
		t.Run(test.want, func(t *testing.T) {
			config := configured(s.ClientURL())
			config.Subject = test.template
			d := numbered(i)
			d.Account = test.account
			if err := open(t, config).Handle(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			made, err := js.Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := made.GetLastMsgForSubject(t.Context(), test.want); err != nil || m.Header.Get("ce-id") != d.ID {
				t.Errorf("on %s there is %v (%v)", test.want, m, err)
			}
		})
	}
}

func TestADeliveryThatIsMadeAgainIsStoredOnce(t *testing.T) {
	t.Parallel()
	s, js := served(t)
	env := environment()
	h := openWith(t, configured(s.ClientURL()), env)
	for range 3 {
		if err := h.Handle(t.Context(), numbered(1)); err != nil {
			t.Fatal(err)
		}
	}
	replayed := numbered(2)
	replayed.Replay = true
	if err := h.Handle(t.Context(), replayed); err != nil {
		t.Fatal(err)
	}
	consume(t, js, 2)
	checkMetrics(t, env, map[string]float64{"messages_total/stored": 2, "messages_total/duplicate": 2, "connects_total/done": 1, "connected": 1})
}

func TestNoStreamIsARetryWithTheCommandThatCreatesOne(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	config := configured(s.ClientURL())
	config.Subject = "callbacks.{service}.{kind}"
	h := open(t, config)
	want := "no stream takes the subject; create one: nats --server " + s.ClientURL() +
		" stream add THINGSPACE --subjects 'callbacks.*.*' --storage file --dupe-window 1h --defaults"
	err := h.Handle(t.Context(), numbered(1))
	if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "subject callbacks.DeviceUsage.Usage: ") || !strings.Contains(err.Error(), want) {
		t.Fatalf("verdict is %v, want a retry with %q", err, want)
	}
	if err := ready(h); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("ready says %v", err)
	}
	js := operator(t, s)
	create(t, js, nil)
	untilReady(t, h, "") // without a delivery
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
	consume(t, js, 1)
}

func TestTheStreamIsTheOneThatIsExpected(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	js := operator(t, s)
	create(t, js, func(c *jetstream.StreamConfig) { c.Name = "OTHER" })
	config := configured(s.ClientURL())
	config.Stream = stream
	h := open(t, config)
	untilReady(t, h, "another stream than CALLBACKS takes the subject") // without a delivery
	err := h.Handle(t.Context(), numbered(1))
	if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "another stream than CALLBACKS takes the subject") {
		t.Fatalf("verdict is %v", err)
	}
	if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	untilReady(t, h, "stream add CALLBACKS --subjects 'callbacks.usage'")
	create(t, js, nil)
	untilReady(t, h, "")
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
	consume(t, js, 1)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	large := func(size int) *handler.Delivery {
		d := numbered(2)
		d.Callback.Usage.Source = strings.Repeat("x", size)
		return d
	}
	for _, test := range []struct {
		rule      string
		change    func(*jetstream.StreamConfig)
		delivery  *handler.Delivery
		permanent bool
		want      string
	}{
		{"larger than the server takes", nil, large(2 << 20), true, "and the server's max_payload is 1048576: raise it"},
		{"larger than the stream takes", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4000 }, large(5000), true,
			"and the max_msg_size of the stream CALLBACKS is 4000: raise it"},
		{"a stream that is full of messages", func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1, jetstream.DiscardNew }, numbered(2), false,
			"maximum messages exceeded: make room"},
		{"a stream that is full of bytes", func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 4500, jetstream.DiscardNew }, large(2500), false,
			"maximum bytes exceeded: make room"},
		{"a subject that is full", func(c *jetstream.StreamConfig) {
			c.MaxMsgsPerSubject, c.Discard, c.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
		}, numbered(2), false, "maximum messages per subject exceeded: make room"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "")
			js := operator(t, s)
			made := create(t, js, test.change)
			h := open(t, configured(s.ClientURL()))
			if err := h.Handle(t.Context(), numbered(1)); err != nil {
				t.Fatal(err)
			}
			err := h.Handle(t.Context(), test.delivery)
			if err == nil || handler.IsPermanent(err) != test.permanent || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("verdict is %v, want %q", err, test.want)
			}
			if isReady := ready(h) == nil; isReady != test.permanent {
				t.Errorf("ready says %v", ready(h))
			}
			if test.permanent {
				return
			}
			if err := made.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := h.Handle(t.Context(), test.delivery); err != nil {
				t.Errorf("once there is room: %v", err)
			}
			if err := ready(h); err != nil {
				t.Errorf("once there is room, ready says %v", err)
			}
		})
	}
}

// deliver makes a delivery as the dispatcher does: again and again.
func deliver(ctx context.Context, h handler.Handler, d *handler.Delivery) error {
	for {
		err := h.Handle(ctx, d)
		if err == nil || handler.IsPermanent(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestAServerThatRestartsInTheMiddleCostsNothing(t *testing.T) {
	t.Parallel()
	const n, callers = 300, 8
	store := t.TempDir()
	s := again(t, "127.0.0.1:-1", store)
	address := s.Addr().String()
	js := operator(t, s, client.MaxReconnects(-1), client.ReconnectWait(10*time.Millisecond))
	create(t, js, nil)
	h := open(t, configured("nats://"+address))
	work, third := make(chan int), make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range work {
				if err := deliver(t.Context(), h, numbered(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		defer close(work)
		for i := range n {
			if i == n/3 {
				close(third)
			}
			work <- i
		}
	})
	<-third
	stop(s)
	untilReady(t, h, "there is no connection to a server at "+address)
	again(t, address, store)
	wg.Wait()
	untilReady(t, h, "")
	seen := map[string]bool{}
	for _, m := range consume(t, operatorAt(t, address), n) {
		seen[m.Headers().Get("ce-id")] = true
	}
	if len(seen) != n {
		t.Errorf("%d deliveries are stored, want %d", len(seen), n)
	}
}

func operatorAt(t testing.TB, address string) jetstream.JetStream {
	t.Helper()
	conn, err := client.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestWithoutAConnectionADeliveryFailsAtOnceAndWaitsInNoBuffer(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := again(t, "127.0.0.1:-1", store)
	address := s.Addr().String()
	create(t, operator(t, s), nil)
	env := environment()
	h := openWith(t, configured("nats://"+address), env)
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	stop(s)
	untilReady(t, h, "connection refused")
	begin := time.Now()
	for i := range 100 {
		if err := h.Handle(t.Context(), numbered(2+i)); err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "there is no connection to a server") {
			t.Fatalf("verdict is %v", err)
		}
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("100 deliveries took %s", took)
	}
	checkMetrics(t, env, map[string]float64{"messages_total/disconnected": 100, "connected": 0})
	again(t, address, store)
	untilReady(t, h, "")
	consume(t, operatorAt(t, address), 1)
	checkMetrics(t, env, map[string]float64{"connects_total/done": 2, "connected": 1})
}

func TestTheNextServerIsTakenWhenOneIsGone(t *testing.T) {
	t.Parallel()
	s, js := served(t)
	h := open(t, configured(refused(t), s.ClientURL(), refused(t)))
	if err := deliver(t.Context(), h, numbered(1)); err != nil {
		t.Fatal(err)
	}
	consume(t, js, 1)
}

// A stream that gives no acks stands for a server that does not answer.
func mute(t testing.TB) (*server.Server, jetstream.JetStream) {
	t.Helper()
	s := serve(t, "")
	js := operator(t, s)
	create(t, js, func(c *jetstream.StreamConfig) { c.NoAck = true })
	return s, js
}

func TestADeliveryThatIsNotAnsweredIsARetry(t *testing.T) {
	t.Parallel()
	s, js := mute(t)
	address := s.Addr().String()
	h := open(t, configured("nats://"+address))
	t.Run("the time-out ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := h.Handle(ctx, numbered(1))
		if !errors.Is(err, context.DeadlineExceeded) || handler.IsPermanent(err) {
			t.Errorf("verdict is %v, want a retry", err)
		}
		untilReady(t, h, "the stream acknowledges nothing (no_ack)")
	})
	t.Run("the context is cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		verdict := make(chan error, 1)
		go func() { verdict <- h.Handle(ctx, numbered(2)) }()
		until(t, "the message is there", func() bool {
			made, err := js.Stream(t.Context(), stream)
			return err == nil && made.CachedInfo().State.Msgs == 2
		})
		cancel()
		if err := <-verdict; !errors.Is(err, context.Canceled) || handler.IsPermanent(err) {
			t.Errorf("verdict is %v, want a retry", err)
		}
	})
	t.Run("the connection is lost", func(t *testing.T) {
		verdict := make(chan error, 1)
		go func() { verdict <- h.Handle(t.Context(), numbered(3)) }()
		until(t, "the message is there", func() bool {
			made, err := js.Stream(t.Context(), stream)
			return err == nil && made.CachedInfo().State.Msgs == 3
		})
		stop(s)
		if err := <-verdict; err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "it was lost before the answer") {
			t.Errorf("verdict is %v, want a retry", err)
		}
	})
}

// A server that takes connections and says nothing holds up neither a delivery nor the end.
func TestAServerThatSaysNothingHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := open(t, configured("nats://"+l.Addr().String()))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Handle(ctx, numbered(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("verdict is %v", err)
	}
	begin := time.Now()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %s", took)
	}
	if err := h.Handle(t.Context(), numbered(1)); err == nil || handler.IsPermanent(err) {
		t.Errorf("a delivery after Close: %v", err)
	}
}

func TestCloseDoesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	s, js := mute(t)
	h := open(t, configured(s.ClientURL()))
	verdict := make(chan error, 1)
	go func() { verdict <- h.Handle(t.Context(), numbered(1)) }() // left behind at a shutdown
	until(t, "the message is there", func() bool {
		made, err := js.Stream(t.Context(), stream)
		return err == nil && made.CachedInfo().State.Msgs == 1
	})
	begin := time.Now()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %s", took)
	}
	if err := <-verdict; err == nil || handler.IsPermanent(err) {
		t.Errorf("verdict is %v", err)
	}
}

func TestWithoutJetStreamTheErrorSaysSo(t *testing.T) {
	t.Parallel()
	s := serve(t, "# no store_dir")
	h := open(t, configured(s.ClientURL()))
	untilReady(t, h, "switch JetStream on")
	if err := h.Handle(t.Context(), numbered(1)); err == nil || handler.IsPermanent(err) {
		t.Errorf("verdict is %v", err)
	}
}

// checkMetrics compares the values of NAME, or of NAME/RESULT.
func checkMetrics(t testing.TB, env handler.Env, want map[string]float64) {
	t.Helper()
	families, err := env.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "callbackd_nats_")
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, value := range want {
		if n, ok := got[name]; !ok || n != value {
			t.Errorf("%s is %v (%t), want %v", name, n, ok, value)
		}
	}
}

func TestMetricsShowZeroAndGoWithTheHandler(t *testing.T) {
	t.Parallel()
	s, _ := served(t)
	env := environment()
	c := configured(s.ClientURL())
	h := openWith(t, c, env)
	zeros := map[string]float64{"connects_total/failed": 0}
	for _, result := range []string{"stored", "duplicate", "too_large", "no_stream", "wrong_stream", "full", "unauthorized", "disconnected", "timed_out", "failed"} {
		zeros["messages_total/"+result] = 0
	}
	checkMetrics(t, env, zeros)
	if _, err := configured(s.ClientURL()).Open(t.Context(), env); err == nil {
		t.Error("two handlers share their metrics")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := env.Registerer.(*prometheus.Registry).Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics are left after Close (%v)", len(families), err)
	}
	if err := openWith(t, c, env).Handle(t.Context(), numbered(4)); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := h.Close(); err != nil { // a second time
		t.Fatal(err)
	}
	checkMetrics(t, env, map[string]float64{"messages_total/stored": 1})
}

// Trouble is known without a delivery, both when it begins and when it has ended; each is logged once.
func TestTroubleIsLoggedOnce(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := again(t, "127.0.0.1:-1", store)
	address := s.Addr().String()
	create(t, operator(t, s), nil)
	core, log := observer.New(zap.InfoLevel)
	said := make(chan string, 100)
	env := environment()
	env.Log = zap.New(core, zap.Hooks(func(e zapcore.Entry) error { said <- e.Message; return nil }))
	h := openWith(t, configured("nats://"+address), env)
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	stop(s)
	if message := <-said; !strings.HasPrefix(message, "not ready") {
		t.Fatalf("the log says %q", message)
	}
	untilReady(t, h, "connection refused")
	again(t, address, store)
	if message := <-said; message != "ready again" {
		t.Fatalf("the log says %q", message)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if log.Len() != 2 {
		t.Errorf("the log says %v", log.All())
	}
}
