package handler_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
	"callbackd/schemas"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// judge holds events against the published schema, against the same schema without room for what it does not name, and against CloudEvents.
type judge struct{ published, closed *jsonschema.Schema }

func newJudge(t *testing.T) judge {
	t.Helper()
	text, err := schemas.FS.ReadFile(schemas.Event)
	if err != nil {
		t.Fatal(err)
	}
	return judge{compile(t, text, func(any) {}), compile(t, text, closeObjects)}
}

func compile(t *testing.T, text []byte, change func(any)) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	change(document)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("urn:callbackd:event:1", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:callbackd:event:1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeObjects forbids members that a schema does not name.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		for _, v := range s {
			closeObjects(v)
		}
		if s["type"] == "object" && s["properties"] != nil {
			s["additionalProperties"] = false
		}
	case []any:
		for _, v := range s {
			closeObjects(v)
		}
	}
}

func (j judge) check(e handler.Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := j.published.Validate(value); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	if err := j.closed.Validate(value); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	var cloud event.Event
	if err := json.Unmarshal(text, &cloud); err != nil {
		return err
	}
	if err := cloud.Validate(); err != nil {
		return err
	}
	if cloud.ID() != e.ID || cloud.Source() != e.Source || cloud.Type() != e.Type || cloud.Subject() != e.Subject || !cloud.Time().Equal(e.Time) {
		return fmt.Errorf("CloudEvents reads another event:\n%s\nof\n%s", cloud, text)
	}
	return nil
}

// arrived is the event of a callback on a service.
func arrived(service callback.Service, c *callback.Callback) handler.Event {
	d := handler.Delivery{ID: "0195a3c8-7b1e-7c44-9a55-000000000001.events", Attempt: 1, Seq: 1, Service: service, Account: "main", Callback: c,
		ReceivedAt: time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)}
	return d.Event()
}

func decoded(t *testing.T, service callback.Service, body []byte) handler.Event {
	t.Helper()
	m, err := thingspace.Read(bytes.Clone(body), thingspace.ReadOptions{KeepExtra: true})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := thingspace.ReadStored(m.Stored(), soap.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return arrived(service, &stored.Callback)
}

func TestEventsConformToSchemaAndCloudEvents(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	t.Run("one of each kind", func(t *testing.T) {
		t.Parallel()
		for _, d := range handlertest.Deliveries() {
			if err := j.check(d.Event()); err != nil {
				t.Errorf("%s: %v", d.Callback.Kind, err)
			}
		}
	})
	t.Run("published samples", func(t *testing.T) {
		t.Parallel()
		for _, s := range platform.Samples() {
			if err := j.check(decoded(t, s.Service, s.Body)); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		promo, err := os.ReadFile("../../schemas/testdata/published/PromoChange.xml")
		if err != nil {
			t.Fatal(err)
		}
		if err := j.check(decoded(t, callback.PromoChange, promo)); err != nil {
			t.Error(err)
		}
	})
	t.Run("the corpus", func(t *testing.T) {
		t.Parallel()
		checkCorpus(t, j)
	})
	t.Run("a thousand generated messages", func(t *testing.T) {
		t.Parallel()
		services := callback.Catalogue()
		g := platform.NewGenerator(1, platform.Credentials{Username: "acme", Password: "s3cret-Pa55"})
		for i := range 1000 {
			service := services[i%len(services)].Service
			if err := j.check(decoded(t, service, g.Next(service).Body)); err != nil {
				t.Fatalf("message %d, of %s: %v", i, service, err)
			}
		}
	})
}

// checkCorpus takes what the reader makes of each message of the corpus, which the reader's own tests hold to be so.
func checkCorpus(t *testing.T, j judge) {
	t.Helper()
	paths, err := filepath.Glob("../thingspace/testdata/corpus/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name != "callback.json" {
				continue
			}
			var c callback.Callback
			if err := json.Unmarshal(f.Data, &c); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if err := j.check(arrived(callback.CarrierService, &c)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("the corpus has %d callbacks", checked)
	}
}

// A callback with every field filled holds every member that the schema names.
func TestTheSchemaDescribesEveryField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../callback/testdata/callback.json")
	if err != nil {
		t.Fatal(err)
	}
	var c callback.Callback
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	e := arrived(callback.CarrierService, &c)
	e.Flags, e.Replay = "extension", true
	if err := newJudge(t).check(e); err != nil {
		t.Error(err)
	}
}

func TestTheSchemaRefuses(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	text, err := json.Marshal(arrived(callback.DeviceUsage, &callback.Callback{Kind: callback.KindUsage,
		Usage: &callback.Usage{BytesUsed: "7", Timestamp: callback.Time{Text: "3/15/2017"}}, Extra: []callback.Element{{Name: "New"}}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ rule, from, to string }{
		{"another version of CloudEvents", `"specversion":"1.0"`, `"specversion":"2.0"`},
		{"an event without an id", `"id":"0195a3c8-7b1e-7c44-9a55-000000000001.events",`, ``},
		{"a time that is none", `"time":"2026`, `"time":"26`},
		{"a type of somebody else", `"com.verizon`, `"com.example`},
		{"data without a kind", `"kind":"Usage",`, ``},
		{"a number that is no text", `"bytesUsed":"7"`, `"bytesUsed":7`},
		{"a date without its text", `{"text":"3/15/2017","iso"`, `{"iso"`},
		{"a date in another form", `"iso":"2017-03-15T00:00:00"`, `"iso":"2017-03-15"`},
		{"an element without a name", `{"name":"New"}`, `{}`},
	} {
		changed := strings.Replace(string(text), test.from, test.to, 1)
		if changed == string(text) {
			t.Fatalf("%s: %s is not in %s", test.rule, test.from, text)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(changed))
		if err != nil {
			t.Fatal(err)
		}
		if j.published.Validate(value) == nil {
			t.Errorf("%s passes: %s", test.rule, changed)
		}
	}
	// What a later release adds is no concern of an older schema.
	added, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(string(text), `"kind":"Usage"`, `"kind":"Usage","new":1`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.published.Validate(added); err != nil {
		t.Errorf("a member that was added: %v", err)
	}
	if j.closed.Validate(added) == nil {
		t.Error("the schema of these tests has room for what it does not name, so they see too little")
	}
}

// Whatever the platform sends, the event keeps to the schema and to CloudEvents.
func TestAnyTextConforms(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ \t\n]{0,3}[-A-Za-z0-9]{0,300}`), rapid.SampledFrom([]string{"3/15/2017", "2026-03-14T00:00:00.5Z", "\u0085", "\ufffe"}))
	rapid.Check(t, func(t *rapid.T) {
		c := callback.Callback{Kind: rapid.SampledFrom(callback.Kinds()).Draw(t, "kind"), RequestID: text.Draw(t, "request"),
			Devices:     []callback.Device{{Kind: text.Draw(t, "device kind"), Identifier: text.Draw(t, "identifier")}},
			Usage:       &callback.Usage{BytesUsed: callback.Number(text.Draw(t, "bytes")), Timestamp: callback.Time{Text: text.Draw(t, "time")}},
			PromoChange: &callback.PromotionChange{ChangeDate: callback.Time{Text: text.Draw(t, "date")}},
			Extra:       []callback.Element{{Name: "New", Text: text.Draw(t, "extra"), Attributes: map[string]string{text.Draw(t, "name"): text.Draw(t, "value")}}}}
		d := handler.Delivery{ID: "1", Seq: 1, Service: callback.DeviceUsage, Account: rapid.StringMatching(`.{1,64}`).Draw(t, "account"), Callback: &c}
		if err := j.check(d.Event()); err != nil {
			t.Fatal(err)
		}
	})
}
