package sqlite

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/inbox"
)

// cut redacts the bodies of these tests: lines that name a device go, and with the last of them the body.
func cut(body []byte, identifier string) []byte {
	var kept [][]byte
	for line := range bytes.Lines(body) {
		if !bytes.Contains(bytes.ToLower(line), []byte(strings.ToLower(identifier))) {
			kept = append(kept, line)
		}
	}
	if kept == nil {
		return nil
	}
	return bytes.Join(kept, nil)
}

// about is an arrival that names the devices, each by two identifiers, a line each.
func about(name string, devices ...string) inbox.Arrival {
	a := testArrival(name, "audit")
	a.Entry.Facts.Devices, a.Entry.Body = nil, nil
	for _, d := range devices {
		a.Entry.Facts.Devices = append(a.Entry.Facts.Devices, inbox.Device{Kind: "mdn", Identifier: d}, inbox.Device{Kind: "imei", Identifier: "I" + d})
		a.Entry.Body = fmt.Appendf(a.Entry.Body, "<device>%s</device><imei>I%s</imei>\n", d, d)
	}
	a.Entry.Facts.Violations = []inbox.Violation{{Path: "/Envelope", Line: 3, Rule: "pattern", Msg: fmt.Sprintf("%q is no number", devices)}}
	return a
}

// occurrences says in which files of the store the text is.
func occurrences(t testing.TB, dir, text string) []string {
	t.Helper()
	var found []string
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(bytes.ToLower(data), []byte(strings.ToLower(text))) {
			found = append(found, file.Name())
		}
	}
	return found
}

func TestEraseRemovesADeviceAndNothingElse(t *testing.T) {
	s := newStore(t, dated)
	register(t, s, "audit")
	mustAppend(t, s, about("alone", "gone001"))
	mustAppend(t, s, about("alone", "gone001")) // a sighting
	mustAppend(t, s, about("shared", "Gone001", "other22"))
	mustAppend(t, s, about("other", "other22"))
	held := about("held", "gone001")
	held.Held = true
	mustAppend(t, s, held)
	for _, d := range claimed(t, s, "audit")[:1] {
		s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictRetry, Attempts: 1, DueAt: s.o.Now(), Reason: "error",
			Cause: "cannot reach gone001"})
	}
	flushed(t, s)

	dry, done := bothWays(t, s, func(dryRun bool) (Erased, error) { return s.Erase(t.Context(), "GONE001 ", cut, dryRun) })
	if fmt.Sprint(dry) != fmt.Sprint(done) {
		t.Errorf("the dry run said %+v, and the erasure %+v", dry, done)
	}
	alone, err := s.Entry(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done.Entries, []int64{1, 2, 4}) || !slices.Equal(done.Whole, []int64{1, 4}) ||
		!slices.Equal(done.Delivered, []string{DeliveryID(alone.ID, "audit", 0)}) {
		t.Errorf("erased %+v", done)
	}
	if in := occurrences(t, s.o.Dir, "gone001"); len(in) > 0 {
		t.Errorf("the device is still in %v", in)
	}
	for seq, state := range map[int64]inbox.State{1: inbox.Done, 2: inbox.Pending, 3: inbox.Pending, 4: inbox.Done} {
		e, err := s.Entry(t.Context(), seq)
		if err != nil || e.State != state || e.Erased != (seq != 3) {
			t.Errorf("entry %d is %s, erased %v, %v; want %s", seq, e.State, e.Erased, err, state)
		}
	}
	if e, _ := s.Entry(t.Context(), 2); len(e.Facts.Devices) != 2 || e.Facts.Devices[1].Identifier != "Iother22" || e.RequestID != "request-shared" {
		t.Errorf("of the shared entry are left %+v", e.Facts)
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{Device: "IOTHER22"}); !slices.Equal(got, []int64{2, 3}) {
		t.Errorf("the other device is found in %v", got)
	}
	if n, p := metric(t, s.o.Metrics.Quarantined), metric(t, s.o.Metrics.Pending.WithLabelValues("audit")); n != 0 || p != 2 {
		t.Errorf("counted are %v in quarantine and %v pending", n, p)
	}
	// The platform resends: the key is still there, and brings nothing back.
	if receipt := mustAppend(t, s, about("alone", "gone001")); !receipt.Duplicate {
		t.Error("what was erased was stored again")
	}
	if replayed, err := s.Replay(t.Context(), replayOf([]int64{1, 2}, to("audit"), false)); err != nil || replayed.Entries != 1 {
		t.Errorf("replayed %+v, %v; nothing is left of entry 1", replayed, err)
	}
}

// Identifiers stand in B-trees whose pages split and move cells about: nothing of an erased one may stay behind in a gap.
func TestErasedBytesAreInNoFile(t *testing.T) {
	s := newStore(t, dated)
	register(t, s, "audit")
	var arrivals []inbox.Arrival
	var devices []string
	for n := range 1000 {
		device := rand.Text()[:16]
		devices = append(devices, device)
		a := about(fmt.Sprint(n), device)
		a.Entry.Body = append(a.Entry.Body, bytes.Repeat([]byte("<line>about "+device+"</line>\n"), n%200)...)
		arrivals = append(arrivals, a)
	}
	fill(t, s, arrivals)
	for n := 0; n < len(arrivals); n += 3 { // sightings make rows grow
		mustAppend(t, s, arrivals[n])
	}
	s.Settle(inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Seq: 1, Handler: "audit"}, Verdict: inbox.VerdictDone})
	flushed(t, s)
	if in := occurrences(t, s.o.Dir, devices[0]); len(in) == 0 {
		t.Fatal("the search finds nothing at all")
	}
	for _, device := range devices[:15] {
		if r, err := s.Erase(t.Context(), device, cut, false); err != nil || len(r.Whole) != 1 {
			t.Fatalf("erased %+v, %v", r, err)
		}
	}
	for _, device := range devices[:15] {
		if in := occurrences(t, s.o.Dir, device); len(in) > 0 {
			t.Errorf("%s is still in %v", device, in)
		}
	}
}

// SQLite leaves copies of rows that it moves from page to page. Here those are erased that have such copies.
func TestErasedBytesAreInNoUnownedPartOfAPage(t *testing.T) {
	s := newStore(t, dated)
	register(t, s, "audit")
	var arrivals []inbox.Arrival
	var copied []string
	for round := range 20 { // until some row was moved
		var more []inbox.Arrival
		for n := range 1000 {
			more = append(more, about(fmt.Sprint(round, n), rand.Text()[:16]))
		}
		fill(t, s, more)
		arrivals = append(arrivals, more...)
		if copied = withCopies(t, s, arrivals); len(copied) > 0 {
			break
		}
	}
	if len(copied) == 0 {
		t.Fatal("no row has a copy: the test shows nothing")
	}
	for _, device := range copied[:min(len(copied), 5)] {
		if r, err := s.Erase(t.Context(), device, cut, false); err != nil || len(r.Whole) != 1 {
			t.Fatalf("erased %+v, %v", r, err)
		}
		if in := occurrences(t, s.o.Dir, device); len(in) > 0 {
			t.Errorf("%s is still in %v", device, in)
		}
	}
	if got, corrupt := allSeqs(t, s.Reader, inbox.Query{Body: true}); len(got) != len(arrivals) || len(corrupt) > 0 {
		t.Errorf("%d entries are left, corrupt %v", len(got), corrupt)
	}
	var ok string
	if err := s.conn.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&ok); err != nil || ok != "ok" {
		t.Errorf("integrity: %s, %v", ok, err)
	}
}

// withCopies are the devices of the arrivals that stand in parts of pages that no row owns.
func withCopies(t *testing.T, s *Store, arrivals []inbox.Arrival) (devices []string) {
	t.Helper()
	if err := s.purgeLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(s.o.Dir, File))
	if err != nil {
		t.Fatal(err)
	}
	var unowned bytes.Buffer
	number := uint32(0)
	for page := range slices.Chunk(file, 4096) {
		number++
		before := slices.Clone(page)
		zeroUnowned(number, page)
		for i := range before {
			unowned.WriteByte(before[i] ^ page[i])
		}
	}
	rest := strings.ToUpper(unowned.String())
	for _, a := range arrivals {
		if device := a.Entry.Facts.Devices[0].Identifier; strings.Contains(rest, device) {
			devices = append(devices, device)
		}
	}
	return devices
}

// A page that is not of a B-tree, or damaged, is never written to.
func TestOnlyWhatNoRowOwnsIsScrubbed(t *testing.T) {
	t.Parallel()
	leaf := func(change func(page []byte)) []byte {
		page := bytes.Repeat([]byte{0xAA}, 64)
		copy(page, []byte{13, 0, 0, 0, 2, 0, 56, 0, 0, 60, 0, 56}) // two cells, at 60 and 56
		change(page)
		return page
	}
	for name, c := range map[string]struct {
		number   uint32
		page     []byte
		from, to int // what is to become zeros
	}{
		"a leaf":                          {2, leaf(func([]byte) {}), 12, 56},
		"an interior page":                {2, leaf(func(p []byte) { copy(p, []byte{5, 0, 0, 0, 1, 0, 56, 0, 0, 0, 0, 9, 0, 56}) }), 14, 56},
		"an overflow page":                {2, leaf(func(p []byte) { p[0] = 0 }), 0, 0},
		"cells that begin in the header":  {2, leaf(func(p []byte) { p[6] = 9 }), 0, 0},
		"cells that begin behind the end": {2, leaf(func(p []byte) { p[6] = 65 }), 0, 0},
		"a cell before the cells":         {2, leaf(func(p []byte) { p[9] = 55 }), 0, 0},
		"a cell behind the end":           {2, leaf(func(p []byte) { p[9] = 64 }), 0, 0},
		"a first page that is too short":  {1, leaf(func([]byte) {}), 0, 0},
		"no page":                         {2, nil, 0, 0},
	} {
		want := slices.Clone(c.page)
		copy(want[c.from:], make([]byte, c.to-c.from))
		if found := zeroUnowned(c.number, c.page); found != (c.from < c.to) || !bytes.Equal(c.page, want) {
			t.Errorf("%s: %v, became %v, want %v", name, found, c.page, want)
		}
	}
}

// What retention removed is gone from the file as well, not only from the tables.
func TestPrunedBytesAreInNoFile(t *testing.T) {
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	for n := range 200 {
		a := about(fmt.Sprint(n), fmt.Sprintf("device-%05d", n))
		a.Handlers = nil
		a.Entry.Body = append(a.Entry.Body, bytes.Repeat([]byte("<secret/>"), 1000)...)
		mustAppend(t, s, a)
	}
	c.Advance(s.o.Retention.Age + time.Hour)
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.purgeLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"device-00007", "<secret/>"} {
		if in := occurrences(t, s.o.Dir, text); len(in) > 0 {
			t.Errorf("%s is still in %v", text, in)
		}
	}
}

func TestEraseOfACorruptEntryTakesItWhole(t *testing.T) {
	s := newStore(t, dated)
	for n := range 3 {
		mustAppend(t, s, about(fmt.Sprint(n), "gone001", "other22"))
	}
	execute(t, s, `UPDATE entry SET facts = '{"gone001' WHERE seq = 1`)
	execute(t, s, `UPDATE body SET data = 'gone001 other22' WHERE seq = 2`)
	r, err := s.Erase(t.Context(), "gone001", cut, false)
	if err != nil || !slices.Equal(r.Entries, []int64{1, 2, 3}) || !slices.Equal(r.Whole, []int64{1, 2}) {
		t.Errorf("erased %+v, %v", r, err)
	}
	if in := occurrences(t, s.o.Dir, "gone001"); len(in) > 0 {
		t.Errorf("the device is still in %v", in)
	}
	if got, corrupt := allSeqs(t, s.Reader, inbox.Query{Device: "other22", Body: true}); !slices.Equal(got, []int64{3}) || len(corrupt) != 0 {
		t.Errorf("the other device is found in %v, corrupt %v", got, corrupt)
	}
	if _, err := s.Entry(t.Context(), 1); err != nil {
		t.Errorf("what is left of a corrupt entry: %v", err)
	}
}

func TestEraseAsksForADevice(t *testing.T) {
	s := newStore(t, dated)
	mustAppend(t, s, about("1", "other22"))
	before := contents(t, s)
	for _, identifier := range []string{"", " "} {
		if r, err := s.Erase(t.Context(), identifier, cut, false); err == nil {
			t.Errorf("erased %+v for %q", r, identifier)
		}
	}
	if r, err := s.Erase(t.Context(), "unknown", cut, false); err != nil || len(r.Entries) != 0 {
		t.Errorf("erased %+v, %v of an unknown device", r, err)
	}
	if !maps.Equal(before, contents(t, s)) {
		t.Error("something was erased")
	}
}

// The copies that migrations and restores left in the data directory are named: the operator has to deal with them.
func TestEraseNamesTheCopiesItCannotReach(t *testing.T) {
	s := newStore(t, dated)
	mustAppend(t, s, about("1", "gone001"))
	kept := filepath.Join(s.o.Dir, File+".version-1.20260101T000000Z")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Erase(t.Context(), "gone001", cut, true); err != nil || !slices.Equal(r.Copies, []string{kept}) {
		t.Errorf("named %v, %v", r.Copies, err)
	}
}

// While somebody reads from the write-ahead log, the erased bytes have to stay in it: that must not be passed over in silence, nor
// hold up the acks.
func TestEraseDoesNotClaimWhatAReaderPrevents(t *testing.T) {
	s := newStore(t, dated)
	mustAppend(t, s, about("1", "gone001"))
	tx, err := s.Reader.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRow(`SELECT count(*) FROM entry`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	erased := make(chan error, 1)
	go func() {
		_, err := s.Erase(ctx, "gone001", cut, false)
		erased <- err
	}()
	for n := range 20 {
		mustAppend(t, s, testArrival(fmt.Sprint(n)))
	}
	select {
	case err := <-erased:
		t.Errorf("the erasure ended with %v before the reader did", err)
	default:
	}
	cancel()
	if err := <-erased; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	// Erasing again finishes the work, though no entry names the device any more.
	if _, err := s.Erase(t.Context(), "gone001", cut, false); err != nil {
		t.Fatal(err)
	}
	if in := occurrences(t, s.o.Dir, "gone001"); len(in) > 0 {
		t.Errorf("the device is still in %v", in)
	}
}
