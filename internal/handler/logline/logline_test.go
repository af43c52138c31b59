package logline_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/logline"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var update = flag.Bool("update", false, "write the golden files")

func open(t testing.TB, env handler.Env) handler.Handler {
	h, err := logline.Type().Config().Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSuite(t *testing.T) {
	t.Parallel()
	handlertest.Run(t, handlertest.Subject{Type: logline.Type(), Open: open})
}

// lines are what the handler writes for the deliveries, without the time of writing.
func lines(t *testing.T, deliveries ...*handler.Delivery) string {
	t.Helper()
	var b bytes.Buffer
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.EncodeTime = "", zapcore.RFC3339NanoTimeEncoder
	h := open(t, handler.Env{Log: zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.AddSync(&b), zapcore.InfoLevel))})
	for _, d := range deliveries {
		if err := h.Handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestOneLineACallback(t *testing.T) {
	t.Parallel()
	const golden = "testdata/lines.json"
	got := lines(t, handlertest.Deliveries()...)
	if n := strings.Count(got, "\n"); n != len(callback.Kinds()) {
		t.Errorf("%d lines for %d callbacks", n, len(callback.Kinds()))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("lines are\n%s\nwant\n%s", got, want)
	}
}

func TestWhatIsShown(t *testing.T) {
	t.Parallel()
	delivery := func(change func(cb *callback.Callback)) *handler.Delivery {
		d := &handler.Delivery{ReceivedAt: time.Unix(0, 0), Callback: &callback.Callback{Kind: callback.KindFault}}
		change(d.Callback)
		return d
	}
	device := func(kind, identifier string) func(*callback.Callback) {
		return func(cb *callback.Callback) { cb.Devices = []callback.Device{{Kind: kind, Identifier: identifier}} }
	}
	fault := func(code string) func(*callback.Callback) {
		return func(cb *callback.Callback) { cb.Fault = &callback.Fault{Code: code} }
	}
	for _, test := range []struct {
		rule   string
		change func(*callback.Callback)
		want   string // part of the line
	}{
		{"the last four characters of an identifier", device("mdn", "4155550137"), `"devices":["mdn:****0137"]`},
		{"nothing of a short identifier", device("mdn", "5550137"), `"devices":["mdn:****"]`},
		{"nothing of an identifier of many bytes and few characters", device("mdn", "ééééééé"), `"devices":["mdn:****"]`},
		{"no identifier", device("mdn", ""), `"devices":["mdn:****"]`},
		{"nothing of a kind that is no code", device("call 4155550137", "x"), `"devices":["****:****"]`},
		{"nothing of a kind that is a number", device("4155550137", "x"), `"devices":["****:****"]`},
		{"a fault's code", fault("CarrierService.REQUEST_FAILED.DeviceNotFound"), `"fault":"CarrierService.REQUEST_FAILED.DeviceNotFound"`},
		{"nothing of a code that is prose", fault("Zebedee is out"), `"fault":"****"`},
		{"nothing of a code without end", fault(strings.Repeat("A", 1<<20)), `"fault":"****"`},
		{"a RequestId", func(cb *callback.Callback) { cb.RequestID = "2c90bd28-ece4-42ef-9f02-7e3bd4fbff33" }, `"request_id":"2c90bd28-ece4-42ef-9f02-7e3bd4fbff33"`},
		{"nothing of a RequestId that is a number", func(cb *callback.Callback) { cb.RequestID = "4155550137" }, `"request_id":"****"`},
		{"eight devices of many", func(cb *callback.Callback) { cb.Devices = make([]callback.Device, 2000) },
			`"devices":["****:****","****:****","****:****","****:****","****:****","****:****","****:****","****:****","..."]`},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			line := lines(t, delivery(test.change))
			if !strings.Contains(line, test.want) {
				t.Errorf("line is %s, want %s in it", line, test.want)
			}
			if len(line) > 1<<10 {
				t.Errorf("line has %d bytes", len(line))
			}
		})
	}
}
