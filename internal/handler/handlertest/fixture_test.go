package handlertest

import (
	"strings"
	"testing"

	"callbackd/internal/callback"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestFixture(t *testing.T) {
	t.Parallel()
	d := Fixture(t, "testdata/usage.txtar")
	if d.Service != callback.DeviceUsage || d.Callback.Usage == nil || d.Callback.Usage.BytesUsed != "362" || len(d.Flags) != 1 || d.Flags[0] != "test" {
		t.Errorf("read as %+v, %+v", d, d.Callback)
	}
	good, err := txtar.ParseFile("testdata/usage.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ rule, from, to, want string }{
		{"a message that is read to another event", "<BytesUsed>362<", "<BytesUsed>363<", `"bytesUsed":"363"`},
		{"an event of another message", `"bytesUsed": "362"`, `"bytesUsed": "7"`, `"bytesUsed":"7"`},
		{"a message that cannot be read", "</s:Envelope>", "", "the document ends"},
		{"an event that is none", `"data": {`, `"data": [`, "event.json"},
		{"a file of something else", "-- event.json --", "-- other.json --", "not what"},
	} {
		text := strings.Replace(string(txtar.Format(good)), test.from, test.to, 1)
		if _, err := delivery(txtar.Parse([]byte(text))); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.rule, err, test.want)
		}
	}
}
