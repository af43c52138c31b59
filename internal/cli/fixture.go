package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/spf13/cobra"
)

func (e *env) inboxFixture() *cobra.Command {
	return &cobra.Command{
		Use:   "fixture SEQ",
		Short: "Make a test file of an entry, which tells of nobody",
		Long: "Print an entry as a test file: the message, and the event that a handler gets of it, in one txtar archive. A test of a handler reads\n" +
			"it with handlertest.Fixture.\n\n" +
			"Identifiers, telephone numbers, names, addresses and texts are replaced by others of the same length, the same all over the file;\n" +
			"so are the user name, the account and the time of arrival. What stays are the words of the platform: kinds, plans, states, codes,\n" +
			"quantities and dates, as far as their members are known. Read the file before you hand it on: custom fields have names of your choice.",
		Example: "  callbackd inbox fixture 42 > internal/handler/overuse/testdata/usage.txtar",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := new(filter).query(cmd, args)
			if err != nil {
				return err
			}
			return e.withReader(cmd.Context(), func(r *sqlite.Reader) error {
				text, err := fixture(cmd.Context(), r, q.Seqs[0])
				if err != nil {
					return err
				}
				_, err = e.out.Write(text)
				return err
			})
		},
	}
}

func fixture(ctx context.Context, r *sqlite.Reader, seq int64) ([]byte, error) {
	entry, err := r.Entry(ctx, seq)
	if err != nil {
		return nil, err
	}
	if len(entry.Body) == 0 {
		return nil, errors.New("the entry was erased: there is no message to make a file of")
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	message, err := thingspace.Disguise(entry.Body, key)
	if err != nil {
		return nil, err
	}
	m, err := thingspace.ReadStored(message, soap.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read the message again: %w", err)
	}
	d := handler.Delivery{ID: "fixture", EntryID: "fixture", Seq: 1, Attempt: 1, ReceivedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Service: callback.Service(entry.Service), Account: "main", Flags: entry.Flags(), Callback: &m.Callback}
	var b bytes.Buffer
	fmt.Fprintf(&b, "A %s callback of %s, which tells of nobody: `callbackd inbox fixture` made it.\n-- message.xml --\n%s-- event.json --\n",
		m.Callback.Kind, entry.Service, message)
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(d.Event())
	return b.Bytes(), err
}

// eventOf is the event of an entry. Its id is the entry's; that of a delivery has the handler's name after it.
func eventOf(entry *inbox.Entry) (*handler.Event, error) {
	m, err := thingspace.ReadStored(entry.Body, soap.Limits{})
	if err != nil {
		return nil, err
	}
	d := handler.Delivery{ID: entry.ID, EntryID: entry.ID, Seq: entry.Seq, ReceivedAt: entry.ReceivedAt, Service: callback.Service(entry.Service),
		Account: entry.Account, Flags: entry.Flags(), Callback: &m.Callback}
	event := d.Event()
	return &event, nil
}
