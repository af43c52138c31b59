package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ledger knows which URLs callbackd registered with one platform, so that it touches no others. A URL is in it before the platform
// learns of it: a crash in between leaves nothing registered that nobody owns.
type Ledger struct {
	state    *State
	platform string
}

// NewLedger gives the ledger of a platform, which is known by its URL: what a simulator was told says nothing of production.
func NewLedger(state *State, platform string) *Ledger {
	return &Ledger{state: state, platform: strings.TrimSuffix(urlKey(platform), "/")}
}

const (
	ledgerFile    = "registered.json"
	ledgerVersion = 1
)

// ledgerBook is the content of ledgerFile.
type ledgerBook struct {
	Version int           `json:"version"`
	Entries []ledgerEntry `json:"entries"`
}

// ledgerEntry is a URL that was registered, or was about to be.
type ledgerEntry struct {
	Platform string    `json:"platform"`
	Account  string    `json:"account"`
	Service  string    `json:"service"`
	URL      string    `json:"url"`
	Settled  bool      `json:"settled"` // the platform was seen to hold it
	At       time.Time `json:"at"`
}

// Owned reports, for plans, which URLs of an account were registered from this data directory.
func (l *Ledger) Owned(account string) (func(service, url string) bool, error) {
	text, err := l.state.read(ledgerFile)
	if err != nil {
		return nil, err
	}
	book, err := l.parse(text)
	if err != nil {
		return nil, err
	}
	return func(service, url string) bool {
		return slices.ContainsFunc(book.Entries, func(e ledgerEntry) bool {
			return l.concerns(e, account, service) && sameURL(e.URL, url)
		})
	}, nil
}

// intend notes a URL that is about to be registered.
func (l *Ledger) intend(ctx context.Context, account, service, url string) error {
	return l.change(ctx, func(book *ledgerBook) {
		if !slices.ContainsFunc(book.Entries, func(e ledgerEntry) bool { return l.concerns(e, account, service) && sameURL(e.URL, url) }) {
			book.Entries = append(book.Entries, l.entry(account, service, url, false))
		}
	})
}

// settle notes that of all URLs of a service the platform holds these alone, of those that callbackd registered.
func (l *Ledger) settle(ctx context.Context, account, service string, urls ...string) error {
	return l.change(ctx, func(book *ledgerBook) {
		book.Entries = slices.DeleteFunc(book.Entries, func(e ledgerEntry) bool { return l.concerns(e, account, service) })
		for _, url := range urls {
			book.Entries = append(book.Entries, l.entry(account, service, url, true))
		}
	})
}

// exclusive waits until nobody else carries out a plan with this data directory.
func (l *Ledger) exclusive(ctx context.Context) (unlock func(), err error) {
	return l.state.lock(ctx, "apply")
}

func (l *Ledger) entry(account, service, url string, settled bool) ledgerEntry {
	return ledgerEntry{
		Platform: l.platform, Account: account, Service: service, URL: url, Settled: settled, At: time.Now().UTC().Truncate(time.Second),
	}
}

func (l *Ledger) concerns(e ledgerEntry, account, service string) bool {
	return e.Platform == l.platform && e.Account == account && SameService(e.Service, service)
}

func (l *Ledger) change(ctx context.Context, change func(*ledgerBook)) error {
	return l.state.update(ctx, ledgerFile, func(old []byte) ([]byte, error) {
		book, err := l.parse(old)
		if err != nil {
			return nil, err
		}
		change(&book)
		text, err := json.MarshalIndent(book, "", "  ")
		return append(text, '\n'), err
	})
}

func (l *Ledger) parse(text []byte) (ledgerBook, error) {
	book := ledgerBook{Version: ledgerVersion}
	if text == nil {
		return book, nil
	}
	err := json.Unmarshal(text, &book)
	if err == nil && book.Version != ledgerVersion {
		err = fmt.Errorf("version %d, this program knows version %d", book.Version, ledgerVersion)
	}
	if err != nil {
		return ledgerBook{}, fmt.Errorf("%s, which remembers what callbackd registered, cannot be understood: %w: restore it, or remove it, "+
			"and what is registered needs --take-over", l.state.path(ledgerFile), err)
	}
	return book, nil
}
