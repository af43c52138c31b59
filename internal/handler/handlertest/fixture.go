package handlertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/rogpeppe/go-internal/txtar"
)

// Fixture reads a file that `callbackd inbox fixture` made: the delivery of a real callback, which tells of nobody. The message is decoded anew,
// and has to give the event that stands beside it.
func Fixture(t testing.TB, path string) *handler.Delivery {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := delivery(archive)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return d
}

func delivery(archive *txtar.Archive) (*handler.Delivery, error) {
	if len(archive.Files) != 2 || archive.Files[0].Name != "message.xml" || archive.Files[1].Name != "event.json" {
		return nil, errors.New("it is not what `callbackd inbox fixture` prints: message.xml, then event.json")
	}
	m, err := thingspace.ReadStored(archive.Files[0].Data, soap.Limits{})
	if err != nil {
		return nil, err
	}
	var e handler.Event
	if err := json.Unmarshal(archive.Files[1].Data, &e); err != nil {
		return nil, fmt.Errorf("event.json: %w", err)
	}
	d := &handler.Delivery{ID: e.ID, EntryID: e.ID, Seq: 1, Attempt: 1, ReceivedAt: e.Time, Service: callback.Service(e.Service), Account: e.Account,
		Callback: &m.Callback}
	if e.Flags != "" {
		d.Flags = strings.Split(e.Flags, ",")
	}
	want, err := compact(e)
	if err != nil {
		return nil, err
	}
	got, err := compact(d.Event())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, fmt.Errorf("message.xml is read as the first of these, which belongs into event.json if it is right, where the second stands:\n%s%s", got, want)
	}
	return d, nil
}

func compact(e handler.Event) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(e)
	return b.Bytes(), err
}
