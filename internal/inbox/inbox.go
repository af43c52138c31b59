// Package inbox is the vocabulary of the durable inbox, and the group commit that its engines share.
//
// An entry is one callback: the bytes as they arrived, its passwords masked, and the facts of its arrival. A delivery is one
// entry's way to one handler. The inbox stores bytes and facts and knows nothing of what they mean.
//
//	Append --+                                  +--> receipts: the ack may go out
//	Append --+--> Writer: one transaction, one sync
//	Settle --+                                  +--> claims are over
//
// The promise, which every engine keeps and package inboxtest checks:
//
//   - Append MUST NOT return nil unless the entry, or the sighting of a duplicate, survives the loss of power, provided that the
//     disk honours a flush.
//   - Once queued, an append is carried out whatever becomes of its caller: the sender's next attempt is then a duplicate.
//   - An entry and its deliveries are stored together or not at all.
//   - Two appends with the same key make one entry, however close together they come.
//   - After a sync that failed nothing is acknowledged any more.
//
// The limits: an engine on one disk does not survive the loss of that disk. Delivery is at least once.
package inbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Entry is a callback in the inbox.
type Entry struct {
	// Seq numbers the entries of one store in the order of their commits. It is never reused.
	Seq int64
	// ID names the entry for good, in this store and any copy of it.
	ID         string
	ReceivedAt time.Time
	Service    string
	Kind       string
	// Account is the label of the credentials that the callback carried.
	Account   string
	RequestID string
	Facts     Facts
	// Body is the message as UTF-8, passwords masked. Queries leave it empty unless asked.
	Body []byte

	// What follows changes after arrival.

	State     State
	Sightings int
	// RepeatOf is the entry that this one, which has no RequestId, is suspected to repeat; 0 for none.
	RepeatOf int64
	// Erased is set when the entry's device data was erased on request.
	Erased bool
}

// Facts are what else is known of an arrival. They are stored as JSON; a field may be added, never given another meaning.
type Facts struct {
	Devices []Device `json:"devices,omitempty"`
	// Related are the identifiers of other devices in the message, by which the entry is found as well.
	Related    []string `json:"related,omitempty"`
	Source     string   `json:"source,omitempty"`     // the sender's address
	Credential string   `json:"credential,omitempty"` // the ID of the pair that matched

	Root        string `json:"root,omitempty"`
	SOAP        string `json:"soap,omitempty"`
	Encoding    string `json:"encoding,omitempty"` // that the bytes arrived in
	ContentType string `json:"content_type,omitempty"`

	Attempt     int `json:"attempt,omitempty"` // CallbackCount
	MaxAttempts int `json:"max_attempts,omitempty"`

	Violations     []Violation `json:"violations,omitempty"`
	Extensions     []string    `json:"extensions,omitempty"`
	ExtensionCount int         `json:"extension_count,omitempty"`

	// SecondOpinion is what an independent validator makes of the verdict; empty if it was not asked, as about most that break nothing.
	SecondOpinion Opinion `json:"second_opinion,omitempty"`

	// Misrouted is set when the payload belongs on another service's listener.
	Misrouted bool `json:"misrouted,omitempty"`
	// Test is set for a message that an operator sent.
	Test bool `json:"test,omitempty"`

	// Trace names the span of the request that the callback arrived by, as a W3C traceparent; empty while nothing was traced.
	Trace string `json:"trace,omitempty"`
}

// Identifiers are those by which an entry is found, in lower case, each once.
func (f *Facts) Identifiers() []string {
	list := make([]string, 0, len(f.Devices)+len(f.Related))
	for _, d := range f.Devices {
		list = append(list, strings.ToLower(d.Identifier))
	}
	for _, identifier := range f.Related {
		list = append(list, strings.ToLower(identifier))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Forget removes a device's identifier, or with all set everything that came from within the message.
func (f *Facts) Forget(identifier string, all bool) {
	if all {
		f.Devices, f.Related = nil, nil
		return
	}
	f.Devices = slices.DeleteFunc(f.Devices, func(d Device) bool { return strings.EqualFold(d.Identifier, identifier) })
	f.Related = slices.DeleteFunc(f.Related, func(r string) bool { return strings.EqualFold(r, identifier) })
}

// Device is an identifier of a device.
type Device struct {
	Kind       string `json:"kind"`
	Identifier string `json:"identifier"`
}

// Opinion is what one validator makes of another's verdict on a message.
type Opinion string

const (
	OpinionAgrees    Opinion = "agrees"
	OpinionDisagrees Opinion = "disagrees" // Violations are those of the one that found any
	OpinionMissing   Opinion = "missing"   // it failed
)

// Violation is a place where the message breaks its schema.
type Violation struct {
	Path   string `json:"path"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Rule   string `json:"rule"`
	Msg    string `json:"msg"`
}

// Flags lists, in words, what is out of the ordinary with an entry.
func (e *Entry) Flags() []string {
	var flags []string
	for _, f := range []struct {
		set  bool
		word string
	}{
		{e.Facts.Test, "test"},
		{len(e.Facts.Violations) > 0, "violation"},
		{e.Facts.SecondOpinion == OpinionDisagrees, "disputed"},
		{e.Facts.ExtensionCount > 0, "extension"},
		{e.Facts.Misrouted, "misrouted"},
		{e.RepeatOf != 0, "repeat"},
		{e.Facts.SOAP == "bare", "bare"},
		{e.Erased, "erased"},
	} {
		if f.set {
			flags = append(flags, f.word)
		}
	}
	return flags
}

// Digest covers all of e that does not change after arrival, body included. It is stored with the entry and checked when the
// entry is read: a database file has no checksums of its own.
func (e *Entry) Digest(facts []byte) [sha256.Size]byte {
	var buf []byte
	for _, s := range []string{e.ID, e.Service, e.Kind, e.Account, e.RequestID} {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	buf = binary.AppendVarint(buf, e.ReceivedAt.UnixMicro())
	buf = binary.AppendUvarint(buf, uint64(len(facts)))
	buf = append(buf, facts...)
	h := sha256.New()
	h.Write(buf)
	h.Write(e.Body)
	return [sha256.Size]byte(h.Sum(nil))
}

// MarshalFacts is the stored form of the facts.
func (e *Entry) MarshalFacts() ([]byte, error) { return json.Marshal(&e.Facts) }

// State is how far an entry is.
type State string

const (
	Pending     State = "pending"     // a delivery is still to be made
	Done        State = "done"        // every delivery is done, or there was none to make
	Dead        State = "dead"        // none is to be made, and at least one was buried
	Quarantined State = "quarantined" // held back from handlers until released
)

// States lists all states.
func States() []State { return []State{Pending, Done, Dead, Quarantined} }

// ParseState reads a state by its word.
func ParseState(word string) (State, bool) {
	s := State(word)
	return s, slices.Contains(States(), s)
}

// Arrival is what [Writer.Append] takes.
type Arrival struct {
	// Entry's Seq, State and Sightings are assigned by the store; ID is, if it is empty.
	Entry Entry
	// Key identifies duplicates; [NewKey] makes it. Empty means that there can be none.
	Key []byte
	// Repeat says that two arrivals with this key within the store's window are only suspected to be one: both become
	// entries, the second of them flagged.
	Repeat bool
	// Handlers are those to deliver to. The entry of a held arrival gets its deliveries when it is released.
	Handlers []string
	Held     bool
}

// RequestPrefix begins every key of a RequestId, so that an engine's index of keys finds the entries of a RequestId as well.
func RequestPrefix(requestID string) []byte {
	sum := sha256.Sum256([]byte(requestID))
	return sum[:8]
}

// NewKey makes an arrival's key of its RequestId and a hash of all that tells duplicates.
func NewKey(requestID string, hash [sha256.Size]byte) []byte {
	return append(RequestPrefix(requestID), hash[:24]...)
}

// Receipt says what became of an arrival, durably.
type Receipt struct {
	Seq int64
	ID  string
	// Duplicate is set when the arrival was a further sighting of an entry, whose Seq is given; the entry itself may have been
	// pruned since.
	Duplicate bool
	RepeatOf  int64
}

// Sighting is one arrival of a callback.
type Sighting struct {
	At      time.Time `json:"at"`
	Source  string    `json:"source,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
}

// Query selects entries. Zero fields select everything.
type Query struct {
	Since, Until time.Time // of arrival, Since included and Until not
	Seqs         []int64
	Service      string
	Kind         string
	Account      string
	RequestID    string
	Device       string // an identifier, letter case aside
	State        State
	Test         *bool // sent by an operator, or not
	// After and Before bound Seq, both excluded; 0 is no bound.
	After, Before int64
	// Newest orders by Seq downwards.
	Newest bool
	// Limit bounds the answer; the engine has a limit of its own, which 0 asks for.
	Limit int
	Body  bool
}

// Outage is a span of time in which nothing could be acknowledged.
type Outage struct {
	From, To time.Time // To is zero while it goes on
	// Reason is "not running", or why the store refused.
	Reason string
	// Refused counts the arrivals that were refused.
	Refused int64
}
