package kafka_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/kafka"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const topic = "callbacks"

// brokers starts a cluster that speaks Kafka's protocol on loopback.
func brokers(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// configured is the configuration by default, with what a handler needs to write to the cluster.
func configured(addresses ...string) *kafka.Config {
	c := kafka.Type().Config().(*kafka.Config)
	c.Brokers, c.Topic = addresses, topic
	return c
}

func environment() handler.Env {
	return handler.Env{Name: "events", Log: zap.NewNop(), Registerer: prometheus.NewRegistry()}
}

func openWith(t testing.TB, c *kafka.Config, env handler.Env) handler.Handler {
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

func open(t testing.TB, c *kafka.Config) handler.Handler {
	t.Helper()
	return openWith(t, c, environment())
}

func ready(h handler.Handler) error { return h.(handler.Readier).Ready() }

// consume reads n records of the topics, and makes sure that there is no other.
func consume(t testing.TB, n int, addresses []string, topics ...string) (records []*kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.ConsumeTopics(topics...), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(records) < n && ctx.Err() == nil {
		records = append(records, c.PollFetches(ctx).Records()...)
	}
	quiet, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if records = append(records, c.PollFetches(quiet).Records()...); len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	return records
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// numbered is a delivery of its own.
func numbered(i int) *handler.Delivery {
	d := handlertest.Delivery(callback.KindUsage)
	d.ID, d.Seq = fmt.Sprintf("0195a3c8-7b1e-7c44-9a55-%012x.events", i), int64(i)
	return d
}

func TestSuite(t *testing.T) {
	t.Parallel()
	addresses := brokers(t).ListenAddrs() // whose goroutines are none of a handler's
	handlertest.Run(t, handlertest.Subject{
		Type: kafka.Type(),
		Open: func(t testing.TB, env handler.Env) handler.Handler { return openWith(t, configured(addresses...), env) },
		Broken: func(t testing.TB, env handler.Env) handler.Handler { // whose right to write was taken away
			c := brokers(t)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			return openWith(t, configured(c.ListenAddrs()...), env)
		},
	})
}

func TestARecordIsTheEvent(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	h := open(t, configured(c.ListenAddrs()...))
	want := make(map[string]handler.Event)
	for _, d := range handlertest.Deliveries() {
		want[d.ID] = d.Event()
		if err := h.Handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	keyless := numbered(1000)
	keyless.Callback = &callback.Callback{Kind: callback.KindUnknown}
	want[keyless.ID] = keyless.Event()
	if err := h.Handle(t.Context(), keyless); err != nil {
		t.Fatal(err)
	}
	for _, r := range consume(t, len(want), c.ListenAddrs(), topic) {
		id := header(r, "ce_id")
		e, ok := want[id]
		if !ok {
			t.Fatalf("a record has ce_id %q", id)
		}
		delete(want, id)
		if string(r.Key) != e.Subject || e.Subject == "" && r.Key != nil {
			t.Errorf("%s: key is %q, want %q", e.Type, r.Key, e.Subject)
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e); err != nil {
			t.Fatal(err)
		}
		if string(r.Value)+"\n" != text.String() {
			t.Errorf("value is %s, want %s", r.Value, text.Bytes())
		}
		checkHeaders(t, r)
	}
}

// checkHeaders holds the headers against the attributes of the value: each is there, as CloudEvents' Kafka binding writes it, and no other.
func checkHeaders(t *testing.T, r *kgo.Record) {
	t.Helper()
	var cloud event.Event
	if err := json.Unmarshal(r.Value, &cloud); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Validate(); err != nil {
		t.Error(err)
	}
	var attributes map[string]any
	if err := json.Unmarshal(r.Value, &attributes); err != nil {
		t.Fatal(err)
	}
	want := []string{"content-type=application/cloudevents+json; charset=UTF-8"}
	for name, value := range attributes {
		if name != "data" && name != "datacontenttype" { // the one is no attribute, and the other is about the data within the value
			want = append(want, fmt.Sprintf("ce_%s=%v", name, value))
		}
	}
	var got []string
	for _, h := range r.Headers {
		got = append(got, h.Key+"="+string(h.Value))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("headers are\n%q\nwant\n%q", got, want)
	}
}

// TestATracedRecordNamesItsAttempt: the consumer's spans can stand beneath the attempt's.
func TestATracedRecordNamesItsAttempt(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}, TraceFlags: trace.FlagsSampled})
	const want = "00-ab000000000000000000000000000000-cd00000000000000-01"
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	if err := open(t, configured(c.ListenAddrs()...)).Handle(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	if got := header(consume(t, 1, c.ListenAddrs(), topic)[0], "traceparent"); got != want {
		t.Errorf("traceparent is %q, want %q", got, want)
	}
}

func TestTheTemplateChoosesTheTopic(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ template, account, want string }{
		{"thingspace.{service}", "main", "thingspace.DeviceUsage"},
		{"{account}_{kind}-v1", "main", "main_Usage-v1"},
		{"{account}", "fleet eu/1.ü", "fleet-eu-1--"},
		{"{account}", "..", "--"},
		{"{account}", strings.Repeat("a", 65), strings.Repeat("a", 64)},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			c := brokers(t, kfake.SeedTopics(1, test.want))
			config := configured(c.ListenAddrs()...)
			config.Topic = test.template
			d := numbered(1)
			d.Account = test.account
			if err := open(t, config).Handle(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			consume(t, 1, c.ListenAddrs(), test.want)
		})
	}
}

func TestDeliveriesShareRequestsAndHaveTheirOwnVerdicts(t *testing.T) {
	t.Parallel()
	const n = 64
	c := brokers(t)
	requests := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	careless := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		return r.(*kmsg.ProduceRequest).Acks != -1 // all in-sync replicas
	}})
	identified := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Observe: true, TopLevel: true, Count: -1})
	config := configured(c.ListenAddrs()...)
	config.Linger = 100 * time.Millisecond
	h := open(t, config)
	verdicts := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d := numbered(i)
			if i == 7 {
				d.Callback.Usage.Source = strings.Repeat("x", int(config.MaxMessageBytes))
			}
			verdicts[i] = h.Handle(t.Context(), d)
		})
	}
	wg.Wait()
	for i, err := range verdicts {
		switch {
		case i != 7 && err != nil:
			t.Errorf("delivery %d: %v", i, err)
		case i == 7 && (!handler.IsPermanent(err) || !strings.Contains(fmt.Sprint(err), "max_message_bytes, 1000012")):
			t.Errorf("a delivery that is too large: %v", err)
		}
	}
	consume(t, n-1, c.ListenAddrs(), topic)
	if hits := requests.Hits(); hits == 0 || hits > n/8 {
		t.Errorf("%d requests for %d records", hits, n)
	}
	if careless.Hits() > 0 || identified.Hits() != 1 {
		t.Errorf("%d requests want fewer acknowledgements than there are, and %d a producer ID", careless.Hits(), identified.Hits())
	}
	if err := ready(h); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestBatchesAreCompressedAsConfigured(t *testing.T) {
	t.Parallel()
	addresses := brokers(t).ListenAddrs()
	codecs := []kafka.Compression{kafka.None, kafka.Gzip, kafka.Snappy, kafka.LZ4, kafka.Zstd} // in the order of Kafka's numbers for them
	for i, codec := range codecs {
		config := configured(addresses...)
		config.Compression = codec
		d := numbered(i)
		d.Callback.Usage.Source = strings.Repeat("x", 10_000)
		if err := open(t, config).Handle(t.Context(), d); err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
	}
	for _, r := range consume(t, len(codecs), addresses, topic) {
		if got, want := int(r.Attrs.CompressionType()), header(r, "ce_sequence"); fmt.Sprintf("%016d", got) != want {
			t.Errorf("record %s is compressed as %d", want, got)
		}
	}
}

// A batch may be too large for a topic of which every record is small enough.
func TestABatchThatIsTooLargeFailsNoneOfItsRecords(t *testing.T) {
	t.Parallel()
	const n = 32
	c := brokers(t)
	if err := c.CreateTopic("narrow", 1, map[string]string{"max.message.bytes": "4000"}); err != nil {
		t.Fatal(err)
	}
	config := configured(c.ListenAddrs()...)
	config.Topic, config.Linger, config.Compression = "narrow", 100*time.Millisecond, kafka.None
	h := open(t, config)
	verdicts := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d := numbered(i)
			if i == 7 {
				d.Callback.Usage.Source = strings.Repeat("x", 5000)
			}
			verdicts[i] = h.Handle(t.Context(), d)
		})
	}
	wg.Wait()
	for i, err := range verdicts {
		switch {
		case i != 7 && err != nil:
			t.Errorf("delivery %d: %v", i, err)
		case i == 7 && (!handler.IsPermanent(err) || !strings.Contains(fmt.Sprint(err), "topic narrow takes no record of")):
			t.Errorf("a record that is too large by itself: %v", err)
		}
	}
	consume(t, n-1, c.ListenAddrs(), "narrow")
	if err := ready(h); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestVerdictsOnWhatBrokersAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule  string
		fault kfake.Fault
		want  string // of the error; empty: done
	}{
		{"the leader has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition}, ""},
		{"too few replicas for a moment", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas}, ""},
		{"no right to write", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed},
			"topic callbacks: TOPIC_AUTHORIZATION_FAILED: Not authorized to access topics: [Topic authorization failed.]: give this user the right to Write to the topic"},
		{"no right to see the topic", kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.TopicAuthorizationFailed, Count: 3}, "give this user the right to Write"},
		{"no right to be idempotent", kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, TopLevel: true},
			"topic callbacks: CLUSTER_AUTHORIZATION_FAILED: Cluster authorization failed.: give this user the right IdempotentWrite on the cluster"},
		{"the topic went away", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownTopicID, Count: -1},
			"create it: kafka-topics.sh --bootstrap-server 127.0.0.1:"},
		{"a fault that nobody knows", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError}, "topic callbacks: UNKNOWN_SERVER_ERROR"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			c := brokers(t)
			fault := c.Fault(test.fault)
			h := open(t, configured(c.ListenAddrs()...))
			err := h.Handle(t.Context(), numbered(1))
			if fault.Hits() == 0 {
				t.Fatal("the fault was not met")
			}
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				consume(t, 1, c.ListenAddrs(), topic)
				return
			}
			if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("verdict is %v, want a retry with %q", err, test.want)
			}
			if err := ready(h); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ready says %v", err)
			}
			fault.Remove() // as an operator does
			if err := h.Handle(t.Context(), numbered(1)); err != nil {
				t.Fatalf("once it was mended: %v", err)
			}
			if err := ready(h); err != nil {
				t.Errorf("once it was mended, ready says %v", err)
			}
			consume(t, 1, c.ListenAddrs(), topic)
		})
	}
}

func TestATopicThatIsNotThereIsARetryWithTheCommandThatCreatesIt(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	config := configured(c.ListenAddrs()...)
	config.Topic = "missing"
	h := open(t, config)
	want := "topic missing: UNKNOWN_TOPIC_OR_PARTITION: This server does not host this topic-partition.: create it: kafka-topics.sh --bootstrap-server " +
		c.ListenAddrs()[0] + " --create --topic missing"
	err := h.Handle(t.Context(), numbered(1))
	if err == nil || handler.IsPermanent(err) || err.Error() != want {
		t.Fatalf("verdict is %v, want a retry with %q", err, want)
	}
	if err := ready(h); err == nil || err.Error() != want {
		t.Errorf("ready says %v", err)
	}
	// It is created, deleted and created anew: each is another topic to Kafka.
	for range 2 {
		if err := c.CreateTopic("missing", 1, nil); err != nil {
			t.Fatal(err)
		}
		var tries int
		for tries = 1; h.Handle(t.Context(), numbered(tries)) != nil; tries++ {
			if tries == 4 {
				t.Fatal("a topic that is there is not found")
			}
		}
		if err := ready(h); err != nil {
			t.Errorf("ready says %v", err)
		}
		consume(t, 1, c.ListenAddrs(), "missing")
		if err := c.DeleteTopic("missing"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPartitionThatCannotBeWrittenToIsARetryWithWhereToLook(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	config := configured(c.ListenAddrs()...)
	config.GiveUp(time.Second)
	config.AskEvery(10 * time.Millisecond)
	h := open(t, config)
	want := "too few in-sync replicas: kafka-topics.sh --bootstrap-server " + c.ListenAddrs()[0] + " --describe --topic callbacks"
	if err := h.Handle(t.Context(), numbered(1)); err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("verdict is %v, want a retry with %q", err, want)
	}
	asked := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1})
	if err := asked.Wait(t.Context(), 3); err != nil { // the topic is there, which mends nothing
		t.Fatal(err)
	}
	if err := ready(h); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("ready says %v", err)
	}
	fault.Remove()
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Error(err)
	}
	consume(t, 1, c.ListenAddrs(), topic)
}

func TestATopicIsCreatedOnlyIfThatIsAllowed(t *testing.T) {
	t.Parallel()
	c := brokers(t, kfake.AllowAutoTopicCreation())
	config := configured(c.ListenAddrs()...)
	config.Topic = "new"
	if err := open(t, config).Handle(t.Context(), numbered(1)); err == nil || c.TopicInfo("new") != nil {
		t.Errorf("a topic was created unasked (%v)", err)
	}
	config = configured(c.ListenAddrs()...)
	config.Topic, config.AllowAutoCreate = "new", true
	if err := open(t, config).Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	consume(t, 1, c.ListenAddrs(), "new")

	config = configured(brokers(t).ListenAddrs()...)
	config.Topic, config.AllowAutoCreate = "new", true
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if err := open(t, config).Handle(ctx, numbered(1)); err == nil || !strings.Contains(err.Error(), "auto.create.topics.enable") {
		t.Errorf("brokers that create nothing: %v", err)
	}
}

func TestBrokersGoAndComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := brokers(t, kfake.DataDir(dir))
	h := open(t, configured(c.ListenAddrs()...))
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	addresses := c.ListenAddrs()
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := h.Handle(ctx, numbered(2))
	if !errors.Is(err, context.DeadlineExceeded) || handler.IsPermanent(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("verdict is %v, want a retry that says what is wrong", err)
	}
	if err := ready(h); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("ready says %v", err)
	}
	_, port, _ := strings.Cut(addresses[0], ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	brokers(t, kfake.DataDir(dir), kfake.Ports(number))
	for _, i := range []int{2, 3} {
		if err := h.Handle(t.Context(), numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ready(h); err != nil {
		t.Errorf("ready says %v", err)
	}
	consume(t, 3, addresses, topic)
}

// stalled holds the answers to requests of a kind back until release is called.
func stalled(t testing.TB, c *kfake.Cluster, key kmsg.Key) (arrived <-chan struct{}, release func()) {
	came, end := make(chan struct{}, 1), make(chan struct{})
	c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		select {
		case came <- struct{}{}:
		default:
		}
		c.SleepControl(func() { <-end })
		return nil, nil, false
	})
	release = sync.OnceFunc(func() { close(end) })
	t.Cleanup(release)
	return came, release
}

func TestADeliveryThatGivesUpTakesNoOtherAlongAndIsNotWrittenTwice(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	arrived, release := stalled(t, c, kmsg.Produce)
	config := configured(c.ListenAddrs()...)
	config.Linger = 50 * time.Millisecond
	h := open(t, config)
	ctx, giveUp := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- h.Handle(ctx, numbered(1)) }()
	go func() { second <- h.Handle(t.Context(), numbered(2)) }()
	<-arrived
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) || handler.IsPermanent(err) {
		t.Errorf("verdict is %v, want a retry", err)
	}
	if err := ready(h); err != nil {
		t.Errorf("a delivery that was given up says something of Kafka: %v", err)
	}
	again := make(chan error, 1)
	go func() { again <- h.Handle(t.Context(), numbered(1)) }()
	select {
	case err := <-again:
		t.Errorf("the next attempt did not wait for the record on its way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	for _, verdict := range []chan error{second, again} {
		if err := <-verdict; err != nil {
			t.Error(err)
		}
	}
	consume(t, 2, c.ListenAddrs(), topic)
}

// Records that brokers do not answer wait in memory, and the next is refused once there are too many.
func TestWhatWaitsForBrokersIsBounded(t *testing.T) {
	t.Parallel()
	const most = 4096
	c := brokers(t)
	arrived, release := stalled(t, c, kmsg.Produce)
	env := environment()
	h := openWith(t, configured(c.ListenAddrs()...), env)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var wg sync.WaitGroup
	for i := range most {
		wg.Go(func() { _ = h.Handle(ctx, numbered(i)) })
	}
	<-arrived
	var err error
	for next := most; err == nil || errors.Is(err, context.DeadlineExceeded); next++ { // until the others have handed theirs over
		attempt, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err = h.Handle(attempt, numbered(next))
		cancel()
	}
	if handler.IsPermanent(err) || !errors.Is(err, kgo.ErrMaxBuffered) {
		t.Errorf("verdict is %v, want a retry", err)
	}
	if n, _ := metric(t, env.Registerer.(*prometheus.Registry), "buffered_records"); n != most {
		t.Errorf("%v records wait", n)
	}
	release()
	wg.Wait()
	if err := h.Handle(t.Context(), numbered(0)); err != nil {
		t.Errorf("once the brokers answer: %v", err)
	}
}

// Nor does one whose record was not yet sent: the client would let go of all that is behind it.
func TestADeliveryThatGivesUpEarlyTakesNoOtherAlong(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	_, release := stalled(t, c, kmsg.Metadata)
	env := environment()
	h := openWith(t, configured(c.ListenAddrs()...), env)
	buffered := func(n float64) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if got, _ := metric(t, env.Registerer.(*prometheus.Registry), "buffered_records"); got == n {
				return
			}
			<-tick.C
		}
	}
	ctx, giveUp := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- h.Handle(ctx, numbered(1)) }()
	buffered(1)
	go func() { second <- h.Handle(t.Context(), numbered(2)) }()
	buffered(2)
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("verdict is %v, want a retry", err)
	}
	release()
	if err := <-second; err != nil {
		t.Error(err)
	}
	consume(t, 2, c.ListenAddrs(), topic)
}

func TestCloseDoesNotWaitForBrokers(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	arrived, _ := stalled(t, c, kmsg.Produce)
	h := open(t, configured(c.ListenAddrs()...))
	ctx, giveUp := context.WithCancel(t.Context())
	verdict := make(chan error, 1)
	go func() { verdict <- h.Handle(ctx, numbered(1)) }()
	<-arrived
	giveUp()
	<-verdict
	closed := make(chan error, 1)
	go func() { closed <- h.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close waits for an answer that does not come")
	}
	if err := h.Handle(t.Context(), numbered(2)); err == nil || handler.IsPermanent(err) {
		t.Errorf("a delivery after Close: %v", err)
	}
}

// Deliveries of one device come one after the other where the order is to hold, and so are their records, whatever happens to them on the way.
func TestRecordsOfAKeyAreInOrder(t *testing.T) {
	t.Parallel()
	const devices, each = 8, 40
	c := brokers(t)
	h := open(t, configured(c.ListenAddrs()...))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 3},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 2})
	var wg sync.WaitGroup
	for device := range devices {
		wg.Go(func() {
			for i := range each {
				d := numbered(device*each + i)
				d.Callback.Devices = []callback.Device{{Kind: "imei", Identifier: fmt.Sprint(device)}}
				if err := h.Handle(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next, partition := make(map[string]int), make(map[string]int32)
	for _, r := range consume(t, devices*each, c.ListenAddrs(), topic) {
		key := string(r.Key)
		if at, ok := partition[key]; ok && at != r.Partition {
			t.Fatalf("records of %s are in two partitions", key)
		}
		partition[key] = r.Partition
		seq, err := strconv.Atoi(header(r, "ce_sequence"))
		if err != nil {
			t.Fatal(err)
		}
		device, err := strconv.Atoi(strings.TrimPrefix(key, "imei:"))
		if err != nil {
			t.Fatal(err)
		}
		if want := device*each + next[key]; seq != want {
			t.Fatalf("record %d of %s has the sequence %d, want %d", next[key], key, seq, want)
		}
		next[key]++
	}
}

// metric is the value of NAME, or of NAME/RESULT.
func metric(t testing.TB, registry *prometheus.Registry, name string) (value float64, found bool) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			full := strings.TrimPrefix(f.GetName(), "callbackd_kafka_")
			for _, l := range m.GetLabel() {
				full += "/" + l.GetValue()
			}
			if full == name {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

func TestMetricsShowZeroAndGoWithTheHandler(t *testing.T) {
	t.Parallel()
	c := brokers(t)
	env := environment()
	registry := env.Registerer.(*prometheus.Registry)
	h := openWith(t, configured(c.ListenAddrs()...), env)
	for _, name := range []string{"records_total/written", "records_total/unauthorized", "records_total/too_large", "broker_connects_total/failed", "batches_total"} {
		if n, ok := metric(t, registry, name); !ok || n != 0 {
			t.Errorf("%s is %v at the start (%t)", name, n, ok)
		}
	}
	if _, err := configured(c.ListenAddrs()...).Open(t.Context(), env); err == nil {
		t.Error("two handlers share their metrics")
	}
	if err := h.Handle(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	large := numbered(2)
	large.Callback.Usage.Source = strings.Repeat("x", 2_000_000)
	if err := h.Handle(t.Context(), large); !handler.IsPermanent(err) {
		t.Fatal(err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
	if err := h.Handle(t.Context(), numbered(3)); err == nil {
		t.Fatal("the fault was not met")
	}
	for name, want := range map[string]float64{"records_total/written": 1, "records_total/too_large": 1, "records_total/unauthorized": 1, "records_total/failed": 0,
		"batches_total": 1, "buffered_records": 0, "broker_connects_total/failed": 0} {
		if n, ok := metric(t, registry, name); !ok || n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	if n, _ := metric(t, registry, "batch_bytes_total"); n < 100 || n > 2000 {
		t.Errorf("a batch of one record has %v bytes", n)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics are left after Close (%v)", len(families), err)
	}
	if err := openWith(t, configured(c.ListenAddrs()...), env).Handle(t.Context(), numbered(4)); err != nil {
		t.Errorf("opened again: %v", err)
	}
}

// What is known of the brokers does not wait for a delivery, neither when trouble begins nor when it has ended; both are logged once.
func TestReadinessIsKnownWithoutADelivery(t *testing.T) {
	t.Parallel()
	c, gone := brokers(t), brokers(t)
	addresses := gone.ListenAddrs()
	gone.Close()
	h, said := observed(t, configured(addresses...))
	if message := <-said; !strings.HasPrefix(message, "not ready") {
		t.Fatalf("the log says %q", message)
	}
	if err := ready(h); err == nil || !strings.Contains(err.Error(), "brokers cannot be asked") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("ready says %v", err)
	}
	config := configured(c.ListenAddrs()...)
	config.Topic = "late"
	h, said = observed(t, config)
	if message := <-said; !strings.HasPrefix(message, "not ready") {
		t.Fatalf("the log says %q", message)
	}
	if err := ready(h); err == nil || !strings.Contains(err.Error(), "--create --topic late") {
		t.Errorf("ready says %v", err)
	}
	if err := c.CreateTopic("late", 1, nil); err != nil {
		t.Fatal(err)
	}
	if message := <-said; message != "ready again" {
		t.Fatalf("the log says %q", message)
	}
	if err := ready(h); err != nil {
		t.Errorf("ready says %v", err)
	}
	select {
	case message := <-said:
		t.Errorf("the log goes on with %q", message)
	default:
	}
}

// observed opens a handler that asks often, and tells what it logs.
func observed(t testing.TB, c *kafka.Config) (handler.Handler, <-chan string) {
	c.AskEvery(10 * time.Millisecond)
	said := make(chan string, 10)
	core, _ := observer.New(zap.InfoLevel)
	env := environment()
	env.Log = zap.New(core, zap.Hooks(func(e zapcore.Entry) error { said <- e.Message; return nil }))
	return openWith(t, c, env), said
}
