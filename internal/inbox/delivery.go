package inbox

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DeliveryKey names a delivery within a store.
type DeliveryKey struct {
	Seq     int64
	Handler string
	// Replay is 0 for the delivery that the arrival made, and the replay's number for one that an operator asked for.
	Replay int64
}

// Delivery is a claimed delivery.
type Delivery struct {
	DeliveryKey
	// ID names the delivery for good: the same over all its attempts, and no other's.
	ID string
	// Attempt counts from 1.
	Attempt int
	Entry   Entry
}

// Order is the order in which a handler's deliveries are made.
type Order uint8

// In an order by device, a delivery is not claimed before those of its device that arrived earlier have ended. Replays, and dead letters
// that were requeued after others had gone on, are outside of it.
const (
	// Unordered deliveries are claimed as they arrived, and a retry holds up none.
	Unordered Order = iota
	// DeviceBlock is by device; a dead letter holds up its device until it is requeued or discarded.
	DeviceBlock
	// DeviceBury is by device; those behind a dead letter go on without it.
	DeviceBury
)

// OrderKey names what an order by device keeps e in order with: its first device, which is the subject of its event, else its RequestId.
// It is 0 for an entry with neither, which has no order.
func (e *Entry) OrderKey() int64 {
	text := ""
	switch {
	case len(e.Facts.Devices) > 0 && e.Facts.Devices[0].Identifier != "":
		d := e.Facts.Devices[0]
		text = "device " + strings.ToLower(d.Kind) + ":" + strings.ToLower(d.Identifier)
	case e.RequestID != "":
		text = "request " + e.RequestID
	default:
		return 0
	}
	sum := sha256.Sum256([]byte(text))
	return int64(binary.BigEndian.Uint64(sum[:8]) | 1)
}

// Verdict ends an attempt.
type Verdict uint8

const (
	VerdictDone Verdict = iota
	VerdictRetry
	VerdictBury
)

func (v Verdict) String() string {
	if v > VerdictBury {
		return fmt.Sprintf("verdict %d", uint8(v))
	}
	return [...]string{"done", "retry", "bury"}[v]
}

// Settlement is the end of an attempt, or of a claim that came to none.
type Settlement struct {
	DeliveryKey
	Verdict Verdict
	// Attempts is how many have been made, this one included.
	Attempts int
	// DueAt is when a retry is due. NotBefore says that the handler asked for that time: then nothing makes it sooner.
	DueAt     time.Time
	NotBefore bool
	// Reason is one of an enumerated set of words; Cause is the error's text, for the operator who looks at the entry.
	Reason, Cause string
}

// The reasons of dead letters.
const (
	ReasonExhausted = "attempts_exhausted" // the handler failed as often as it is allowed to
	ReasonPermanent = "permanent"          // the handler said that no attempt will ever succeed
	ReasonDecode    = "decode_failed"      // this callbackd cannot read the stored message
	ReasonCorrupt   = "corrupt_entry"      // the stored bytes are not those that arrived
	ReasonRemoved   = "handler_removed"    // the configuration has no such handler any more
)

// DeadReasons lists the reasons of dead letters.
func DeadReasons() []string {
	return []string{ReasonExhausted, ReasonPermanent, ReasonDecode, ReasonCorrupt, ReasonRemoved}
}

// DeliveryStatus is what is known of a delivery.
type DeliveryStatus struct {
	DeliveryKey
	State     string // one of [DeliveryStates]
	Attempts  int
	DueAt     time.Time
	SettledAt time.Time
	Reason    string
	Cause     string
	// Blocked is set while a pending delivery waits for an earlier one of its device.
	Blocked bool
	// DiscardedBy is who gave up a dead letter; SettledAt is then when.
	DiscardedBy string
}

// DeliveryStates lists the states of a delivery.
func DeliveryStates() []string { return slices.Clone(deliveryStates[:]) }

var deliveryStates = [...]string{"pending", "done", "dead", "discarded"}

// HandlerStatus is what the inbox knows of a handler.
type HandlerStatus struct {
	Name  string
	Order Order
	// Pending counts the deliveries still to be made, Blocked those among them that wait for an earlier one of their device, and Dead the
	// dead letters.
	Pending, Blocked, Dead int64
	// OldestPending is when the oldest callback arrived that is still to be delivered; zero for none.
	OldestPending time.Time
	// PausedAt is when an operator paused it, and PausedBy who; zero while it is not paused.
	PausedAt time.Time
	PausedBy string
}

// DeadQuery selects dead letters. Zero fields select everything.
type DeadQuery struct {
	Since, Until time.Time // of the callback's arrival, Since included and Until not
	Seqs         []int64
	Handler      string
	Service      string
	Kind         string
	Account      string
	RequestID    string
	Device       string // an identifier, letter case aside
	Reason       string // one of [DeadReasons]
	// After continues a list behind its last delivery.
	After DeliveryKey
	// Limit bounds the answer; the engine has a limit of its own, which 0 asks for.
	Limit int
}

// DeadLetter is a delivery that was buried.
type DeadLetter struct {
	DeliveryKey
	ID       string // of the delivery
	Attempts int
	BuriedAt time.Time
	Reason   string
	Cause    string // the error's text, which may quote the callback

	ReceivedAt time.Time
	Service    string
	Kind       string
	Account    string
	RequestID  string
}

// Changed says what became of dead letters, or in a dry run would.
type Changed struct {
	Deliveries int            `json:"deliveries"`
	Handlers   map[string]int `json:"handlers"` // their numbers by handler
}
