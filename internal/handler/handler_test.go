package handler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/handler/handlertest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var update = flag.Bool("update", false, "write the golden files")

// TestEvent holds the event of each kind against its golden file: the names and the order of fields are a promise.
func TestEvent(t *testing.T) {
	t.Parallel()
	files := make(map[string]bool)
	for _, d := range handlertest.Deliveries() {
		name := string(d.Callback.Kind) + ".json"
		files[name] = true
		t.Run(string(d.Callback.Kind), func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			e := json.NewEncoder(&got)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(d.Event()); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "events", name)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("event is\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
	entries, err := os.ReadDir("testdata/events")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !files[e.Name()] {
			t.Errorf("%s is no kind's", e.Name())
		}
	}
}

// TestEventIsACloudEvent checks what CloudEvents 1.0 asks of every event and its attributes' names.
func TestEventIsACloudEvent(t *testing.T) {
	t.Parallel()
	ids := make(map[string]bool)
	for _, d := range handlertest.Deliveries() {
		text, err := json.Marshal(d.Event())
		if err != nil {
			t.Fatal(err)
		}
		var attributes map[string]any
		if err := json.Unmarshal(text, &attributes); err != nil {
			t.Fatal(err)
		}
		for _, required := range []string{"specversion", "id", "source", "type"} {
			if s, _ := attributes[required].(string); s == "" {
				t.Errorf("%s: no %s", d.Callback.Kind, required)
			}
		}
		for name, value := range attributes {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(name) > 20 {
				t.Errorf("%s: %q is no name of an attribute", d.Callback.Kind, name)
			}
			switch value.(type) {
			case string, bool:
			default:
				if name != "data" {
					t.Errorf("%s: attribute %s is a %T", d.Callback.Kind, name, value)
				}
			}
		}
		if at, err := time.Parse(time.RFC3339Nano, attributes["time"].(string)); err != nil || !at.Equal(d.ReceivedAt) {
			t.Errorf("%s: time %v, want %v (%v)", d.Callback.Kind, attributes["time"], d.ReceivedAt, err)
		}
		if id := attributes["source"].(string) + " " + attributes["id"].(string); ids[id] {
			t.Errorf("%s: source and id are another event's: %s", d.Callback.Kind, id)
		} else {
			ids[id] = true
		}
		// What is read back is what was written: nothing of the callback is lost on the way.
		var back handler.Event
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(back); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s: read back as\n%s\nwant\n%s (%v)", d.Callback.Kind, again, text, err)
		}
	}
}

func TestEventAttributes(t *testing.T) {
	t.Parallel()
	base := handler.Delivery{ID: "e.h", Seq: 12, ReceivedAt: time.Date(2026, 1, 2, 4, 4, 5, 0, time.FixedZone("", 3600)), Service: "DeviceUsage", Account: "main",
		Callback: &callback.Callback{Kind: callback.KindUsage, RequestID: "r-1", Devices: []callback.Device{{Kind: "mdn", Identifier: "1"}, {Kind: "esn", Identifier: "2"}}}}
	for _, test := range []struct {
		rule   string
		change func(d *handler.Delivery)
		field  func(e handler.Event) any
		want   any
	}{
		{"the subject is the first device", func(*handler.Delivery) {}, func(e handler.Event) any { return e.Subject }, "mdn:1"},
		{"without a device it is the RequestId", func(d *handler.Delivery) { d.Callback = &callback.Callback{RequestID: "r-1"} },
			func(e handler.Event) any { return e.Subject }, "r-1"},
		{"one device is one subject, whatever the letter case of its kind", func(d *handler.Delivery) {
			d.Callback = &callback.Callback{Devices: []callback.Device{{Kind: "Mdn", Identifier: "60E5F99D"}}}
		}, func(e handler.Event) any { return e.Subject }, "mdn:60E5F99D"},
		{"a device without an identifier is no subject", func(d *handler.Delivery) {
			d.Callback = &callback.Callback{Devices: []callback.Device{{Kind: "mdn"}, {Kind: "esn", Identifier: " \n"}, {Kind: "iccid", Identifier: "\n 2\t"}}}
		}, func(e handler.Event) any { return e.Subject }, "iccid:2"},
		{"no attribute holds a control character", func(d *handler.Delivery) { d.Callback = &callback.Callback{RequestID: "a\r\nb\u0085c\ufdd0"} },
			func(e handler.Event) any { return e.Subject + "|" + e.RequestID }, "a  b c|a  b c"},
		{"what is too long for an attribute stands in the data alone", func(d *handler.Delivery) {
			d.Callback = &callback.Callback{RequestID: strings.Repeat("r", 257), Devices: []callback.Device{{Kind: "mdn", Identifier: strings.Repeat("1", 257)}}}
		}, func(e handler.Event) any { return e.Subject + "|" + e.RequestID }, "|"},
		{"the time is in UTC", func(*handler.Delivery) {}, func(e handler.Event) any { return e.Time.String() }, "2026-01-02 03:04:05 +0000 UTC"},
		{"sequences sort as text", func(*handler.Delivery) {}, func(e handler.Event) any { return e.Sequence }, "0000000000000012"},
		{"flags are words", func(d *handler.Delivery) { d.Flags = []string{"test", "repeat"} }, func(e handler.Event) any { return e.Flags }, "test,repeat"},
		{"an account is escaped in the source", func(d *handler.Delivery) { d.Account = "a/b c" }, func(e handler.Event) any { return e.Source }, "/thingspace/a%2Fb%20c/DeviceUsage"},
		{"a replay is told", func(d *handler.Delivery) { d.Replay = true }, func(e handler.Event) any { return e.Replay }, true},
		{"the type names the kind", func(*handler.Delivery) {}, func(e handler.Event) any { return e.Type }, "com.verizon.thingspace.callback.Usage"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			d := base
			test.change(&d)
			if got := test.field(d.Event()); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := &fs.PathError{Op: "write", Path: "events", Err: fs.ErrPermission}
	for _, test := range []struct {
		rule      string
		err       error
		permanent bool
		delay     time.Duration
	}{
		{"no mark", cause, false, 0},
		{"permanent", handler.Permanent(cause), true, 0},
		{"permanent, wrapped", fmt.Errorf("post event: %w", handler.Permanent(cause)), true, 0},
		{"permanent, among others", errors.Join(errors.New("other"), handler.Permanent(cause)), true, 0},
		{"permanent, around a wrapper", handler.Permanent(fmt.Errorf("post event: %w", cause)), true, 0},
		{"retry after", handler.RetryAfter(time.Minute, cause), false, time.Minute},
		{"retry after, wrapped", fmt.Errorf("post event: %w", handler.RetryAfter(time.Minute, cause)), false, time.Minute},
		{"retry after, twice: the outer counts", handler.RetryAfter(time.Hour, handler.RetryAfter(time.Minute, cause)), false, time.Hour},
		{"retry after, in the past", handler.RetryAfter(-time.Minute, cause), false, 0},
		{"both", handler.RetryAfter(time.Minute, handler.Permanent(cause)), true, time.Minute},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			if got := handler.IsPermanent(test.err); got != test.permanent {
				t.Errorf("permanent is %t", got)
			}
			if got := handler.RetryDelay(test.err); got != test.delay {
				t.Errorf("delay is %s, want %s", got, test.delay)
			}
			var as *fs.PathError
			if !errors.Is(test.err, fs.ErrPermission) || !errors.As(test.err, &as) || as != cause {
				t.Error("the mark hides its cause")
			}
			if !strings.Contains(test.err.Error(), cause.Error()) {
				t.Errorf("text is %q", test.err)
			}
		})
	}
	if handler.Permanent(nil) != nil || handler.RetryAfter(time.Hour, nil) != nil || handler.IsPermanent(nil) || handler.RetryDelay(nil) != 0 {
		t.Error("a mark on no error is an error")
	}
	if handler.Permanent(cause).Error() != cause.Error() || handler.RetryAfter(1, cause).Error() != cause.Error() {
		t.Error("a mark changes the text")
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	var got []*callback.Fault
	h := handler.For(func(_ context.Context, d *handler.Delivery, f *callback.Fault) error {
		if d.Callback.Fault != f {
			t.Error("the payload is not the callback's")
		}
		got = append(got, f)
		return refused
	})
	for _, test := range []struct {
		rule  string
		cb    *callback.Callback
		calls int
		want  error
	}{
		{"its payload", &callback.Callback{Kind: callback.KindFault, Fault: &callback.Fault{Code: "x"}}, 1, refused},
		{"its payload beside another kind's", &callback.Callback{Kind: callback.KindUsage, Usage: &callback.Usage{}, Fault: &callback.Fault{}}, 1, refused},
		{"its payload, there and empty", &callback.Callback{Kind: callback.KindUnknown, Fault: &callback.Fault{}}, 1, refused},
		{"another kind is done at once", &callback.Callback{Kind: callback.KindUsage, Usage: &callback.Usage{}}, 0, nil},
		{"the kind without its payload is done at once", &callback.Callback{Kind: callback.KindFault}, 0, nil},
		{"a fault within another payload is not the callback's", &callback.Callback{SMSDelivery: &callback.SMSDelivery{Fault: &callback.Fault{}}}, 0, nil},
	} {
		got = nil
		if err := h.Handle(t.Context(), &handler.Delivery{Callback: test.cb}); !errors.Is(err, test.want) || len(got) != test.calls {
			t.Errorf("%s: %d calls, error %v", test.rule, len(got), err)
		}
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
}

// A delivery, its event and its callback may be printed and logged whole, by mistake or not.
func TestNothingThatIsPrintedOrLoggedQuotesADelivery(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(&out), zap.DebugLevel))
	for _, d := range handlertest.Deliveries() {
		event := d.Event()
		for _, v := range []any{d, *d, event, &event, d.Callback, *d.Callback, []handler.Event{event}} {
			fmt.Fprintf(&out, "%v %+v %#v %s %q\n", v, v, v, v, v)
		}
		log.Info("x", zap.Any("delivery", d), zap.Any("event", event), zap.Any("event", &event), zap.Any("callback", d.Callback), zap.Any("callback", *d.Callback))
	}
	for _, personal := range handlertest.Personal() {
		if strings.Contains(out.String(), personal) {
			t.Errorf("%q is in what was printed and logged", personal)
		}
	}
	if !strings.Contains(out.String(), `"id":"0195a3c8-7b1e-7c44-9a55-000000000001.events"`) {
		t.Errorf("a logged delivery does not say which it is:\n%s", out.String())
	}
}

// A payload of every type has its adapter, which is called for callbacks that carry it and for no others.
func TestForEveryPayload(t *testing.T) {
	t.Parallel()
	adapted := map[callback.Kind]func(*int) handler.Handler{
		callback.KindCarrierService:             counting[callback.CarrierServiceResponse],
		callback.KindExternalProvisioningChange: counting[callback.ExternalProvisioningChange],
		callback.KindPromoChange:                counting[callback.PromotionChange],
		callback.KindUsage:                      counting[callback.Usage],
		callback.KindSMSDelivery:                counting[callback.SMSDelivery],
		callback.KindPRLInformation:             counting[callback.PRLInformation],
		callback.KindDeviceSuspendStatus:        counting[callback.SuspendStatus],
		callback.KindCheckDeviceAvailability:    counting[callback.DeviceAvailability],
		callback.KindSmsMessage:                 counting[callback.SmsMessage],
		callback.KindFault:                      counting[callback.Fault],
		callback.KindComment:                    counting[callback.Comment],
		callback.KindSummary:                    counting[callback.Summary],
		callback.KindStatus:                     counting[callback.Status],
	}
	for _, kind := range callback.Kinds() {
		if adapted[kind] == nil && kind != callback.KindUnknown {
			t.Errorf("%s has no adapter", kind)
		}
	}
	for kind, adapter := range adapted {
		for _, d := range handlertest.Deliveries() {
			calls := 0
			if err := adapter(&calls).Handle(t.Context(), d); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			// A Status stands beside another payload at times.
			beside := kind == callback.KindStatus && d.Callback.Status != nil
			if want := d.Callback.Kind == kind || beside; (calls == 1) != want {
				t.Errorf("the adapter of %s is called %d times for a callback of kind %s", kind, calls, d.Callback.Kind)
			}
		}
	}
}

func counting[T callback.Payload](calls *int) handler.Handler {
	return handler.For(func(_ context.Context, d *handler.Delivery, payload *T) error {
		if payload == nil || payload != callback.PayloadOf[T](d.Callback) {
			return errors.New("the payload is not the callback's")
		}
		*calls++
		return nil
	})
}

// TestBuiltin looks at the list of handler types as a whole.
func TestBuiltin(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	takesTests := false
	for _, typ := range builtin.Types() {
		if names[typ.Name] {
			t.Errorf("type %s stands twice", typ.Name)
		}
		names[typ.Name] = true
		takesTests = takesTests || typ.TakesTests
		if a, b := typ.Config(), typ.Config(); a == nil || fmt.Sprintf("%T", a) != fmt.Sprintf("%T", b) {
			t.Errorf("type %s: configurations %T and %T", typ.Name, a, b)
		}
	}
	if !names["log"] || !names["ndjson"] || !takesTests {
		t.Errorf("types are %v", names)
	}
}
