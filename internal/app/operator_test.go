package app_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace/platform"
)

const token = "0123456789abcdef0123456789abcdef"

// withToken is head with an API.
var withToken = strings.Replace(head, "127.0.0.1:0}", "127.0.0.1:0, token_file: token}", 1)

// operated is a callbackd that runs, and whose API is asked.
type operated struct {
	*testing.T
	dir string
	app *app.App
	log *buffer
	gen *platform.Generator
	ids []string // the RequestIds of what was sent, by Seq
}

func operate(t *testing.T, more string) *operated {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	a, log, err := build(t, load(t, dir, withToken+more))
	if err != nil {
		t.Fatal(err)
	}
	run(t, a)
	return &operated{t, dir, a, log, platform.NewGenerator(1, credentials), nil}
}

// ask asks for an operation with the token, and returns the status and what was answered, which goes into answer too.
func (o *operated) ask(name, request string, answer any) (status int, text string) {
	o.Helper()
	r, err := http.NewRequestWithContext(o.Context(), http.MethodPost, "http://"+o.app.Addresses().Admin.String()+"/api/v1/"+name, strings.NewReader(request))
	if err != nil {
		o.Error(err)
		return 0, ""
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		o.Error(err)
		return 0, ""
	}
	defer response.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&raw); err != nil {
		o.Errorf("%s: %s: %v", name, response.Status, err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			o.Errorf("%s answers %s: %v", name, raw, err)
		}
	}
	return response.StatusCode, string(raw)
}

// send posts n callbacks, each of which has to be acknowledged.
func (o *operated) send(n int) {
	o.Helper()
	client := &platform.Client{HTTP: http.DefaultClient}
	url := "http://" + o.app.Addresses().Services[callback.DeviceUsage].String() + "/"
	for range n {
		message := o.gen.Message(callback.DeviceUsage)
		o.ids = append(o.ids, requestID(o.T, message))
		if answer, err := client.Post(o.Context(), url, message); err != nil || !answer.Acked() {
			o.Fatalf("post: %+v, %v", answer, err)
		}
	}
}

// until asks how the handlers stand until one is as it should be.
func (o *operated) until(handler string, as func(app.HandlerStatus) bool) app.HandlerStatus {
	o.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var h app.HandlerStatus
	for range 4000 {
		if h = o.handler(handler); as(h) {
			return h
		}
		<-tick.C
	}
	o.Fatalf("gave up waiting: %+v", h)
	return h
}

func (o *operated) handler(name string) app.HandlerStatus {
	o.Helper()
	var list app.ListHandlersAnswer
	if status, text := o.ask(app.OpHandlerList, "", &list); status != http.StatusOK {
		o.Fatalf("%d %s", status, text)
	}
	return list.Handlers[slices.IndexFunc(list.Handlers, func(h app.HandlerStatus) bool { return h.Name == name })]
}

// breakOut removes the folder that a handler writes to, and mendOut makes it again.
func (o *operated) breakOut() { must(o.T, os.RemoveAll(filepath.Join(o.dir, "out"))) }
func (o *operated) mendOut()  { must(o.T, os.Mkdir(filepath.Join(o.dir, "out"), 0o700)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seqs are the entries in a file of events, in its order.
func (o *operated) seqs(file string) (list []int64) {
	o.Helper()
	f, err := os.Open(filepath.Join(o.dir, file))
	must(o.T, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Data struct {
				RequestID string `json:"requestId"`
			} `json:"data"`
		}
		must(o.T, json.Unmarshal(lines.Bytes(), &event))
		list = append(list, int64(slices.Index(o.ids, event.Data.RequestID))+1)
	}
	must(o.T, lines.Err())
	return list
}

func ascending(n int) (list []int64) {
	for i := range n {
		list = append(list, int64(i)+1)
	}
	return list
}

// TestAHandlerThatIsDownLeavesOthersCurrentAndCatchesUp: a day is a second here, in which the breaker opens, and probes fail. What failed
// would wait for up to 10 s, and goes first all the same.
func TestAHandlerThatIsDownLeavesOthersCurrentAndCatchesUp(t *testing.T) {
	t.Parallel()
	const callbacks = 200
	o := operate(t, `services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers:
  events: {type: ndjson, path: DIR/events.ndjson}
  down: {type: ndjson, path: DIR/out/down.ndjson, delivery: {max_attempts: 5, backoff: {min: 10s, max: 10s}, breaker: {failures: 4, open: {min: 1ms, max: 20ms}}}}
routes: [{handlers: [events, down]}]
`)
	o.breakOut()
	o.send(callbacks)
	if h := o.until("events", func(h app.HandlerStatus) bool { return h.Pending == 0 }); h.State != app.HandlerReady || h.Dead != 0 {
		t.Errorf("the one that works is %+v", h)
	}
	// More probes than a delivery has attempts: they use up none.
	h := o.until("down", func(h app.HandlerStatus) bool { return h.Failures > 30 })
	if h.State != app.HandlerUnready || h.Breaker == "closed" || h.Pending != callbacks || h.Dead != 0 || h.OldestPending.IsZero() {
		t.Errorf("the one that is down is %+v", h)
	}
	o.mendOut()
	if h = o.until("down", func(h app.HandlerStatus) bool { return h.Pending == 0 }); h.Dead != 0 || h.State != app.HandlerReady {
		t.Errorf("after it has caught up it is %+v", h)
	}
	if got := o.seqs("events.ndjson"); !slices.Equal(got, ascending(callbacks)) {
		t.Errorf("the one that works got %v", got)
	}
	got := o.seqs("out/down.ndjson")
	if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, ascending(callbacks)) {
		t.Errorf("the one that was down got %v", sorted)
	}
	if rest := got[1:]; !slices.IsSorted(rest) { // the first is the probe
		t.Errorf("after its probe it got %v", rest)
	}
}

// TestRequestsToTheAPI: what changes something has to be told what, and what is wrong has a code.
func TestRequestsToTheAPI(t *testing.T) {
	t.Parallel()
	o := operate(t, `services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers: {events: {type: ndjson, path: DIR/events.ndjson}}
routes: [{handlers: [events]}]
`)
	o.send(1)
	o.until("events", func(h app.HandlerStatus) bool { return h.Pending == 0 })
	for _, tt := range []struct {
		name, operation, request string
		status                   int
		want                     string // in the answer
	}{
		{"nothing selected", app.OpDeadRequeue, `{}`, 422, `"code":"invalid"`},
		{"an empty list", app.OpDeadDiscard, `{"handler": "events", "seqs": [ ]}`, 422, `seqs: is empty`},
		{"an empty word", app.OpDeadDiscard, `{"reason": "permanent", "handler": ""}`, 422, `handler: is empty`},
		{"a field without a value", app.OpDeadDiscard, `{"reason": "permanent", "device": null}`, 422, `device: is empty`},
		{"a service that there is not", app.OpDeadList, `{"service": "DeviceUse"}`, 422, `service: there is no`},
		{"a kind that there is not", app.OpReplay, `{"kind": "usage"}`, 422, `is none of`},
		{"no value", app.OpDeadList, `null`, 400, `it is no JSON object`},
		{"all, and something", app.OpDeadDiscard, `{"all": true, "handler": "events"}`, 422, `not both`},
		{"all", app.OpDeadDiscard, `{"all": true}`, 200, `{"deliveries":0,"handlers":{}}`},
		{"a field that is misspelt", app.OpDeadRequeue, `{"handler": "events", "devce": "1"}`, 400, `unknown field`},
		{"no object", app.OpDeadRequeue, `[1]`, 400, `"code":"bad_request"`},
		{"two objects", app.OpDeadRequeue, `{"all": true} {}`, 400, `there is more`},
		{"a handler that nobody knows", app.OpDeadRequeue, `{"handler": "nobody"}`, 404, `{"error":"no handler \"nobody\" is configured: there are events","code":"not_found"}`},
		{"a handler that nobody knows, to discard", app.OpDeadDiscard, `{"handler": "nobody"}`, 404, `{"error":"no delivery was ever made to handler \"nobody\"","code":"not_found"}`},
		{"nothing to requeue", app.OpDeadRequeue, `{"handler": "events"}`, 200, `{"deliveries":0,"handlers":{}}`},
		{"a reason that there is not", app.OpDeadList, `{"reason": "gone"}`, 422, `is none of attempts_exhausted`},
		{"dead letters of a handler that nobody knows", app.OpDeadList, `{"handler": "nobody"}`, 404, `no handler \"nobody\" is configured, nor was: there are events`},
		{"a page too long", app.OpDeadList, `{"limit": 1001}`, 422, `limit`},
		{"no dead letter", app.OpDeadList, ``, 200, `{"dead_letters":[]}`},
		{"a replay of nothing", app.OpReplay, `{"dry_run": true}`, 422, `select by something`},
		{"a replay of a state that there is not", app.OpReplay, `{"state": "gone"}`, 422, `state`},
		{"a replay at a negative rate", app.OpReplay, `{"all": true, "rate": -1}`, 422, `rate`},
		{"a replay that would take for ever", app.OpReplay, `{"all": true, "rate": 1e-300}`, 422, `rate`},
		{"a replay whose ID is long", app.OpReplay, `{"all": true, "id": "` + strings.Repeat("x", 201) + `"}`, 422, `id`},
		{"a replay to an empty list", app.OpReplay, `{"all": true, "handlers": []}`, 422, `handlers: is empty`},
		{"a replay to nobody", app.OpReplay, `{"all": true, "handlers": ["nobody"]}`, 404, `"code":"not_found"`},
		{"a replay that is tried", app.OpReplay, `{"all": true, "id": "once", "dry_run": true}`, 200, `"deliveries":1,"scheduled":1}`},
		{"a replay", app.OpReplay, `{"all": true, "id": "once"}`, 200, `"deliveries":1,"scheduled":1}`},
		{"the replay again", app.OpReplay, `{"all": true, "id": "once"}`, 200, `"deliveries":1,"scheduled":0,"known":true}`},
		{"another replay of the ID", app.OpReplay, `{"seqs": [1], "id": "once"}`, 409, `"code":"conflict"`},
		{"a pause of nobody", app.OpPause, `{"handler": "nobody"}`, 404, `"code":"not_found"`},
		{"a pause of no name", app.OpPause, `{}`, 404, `"code":"not_found"`},
		{"a pause", app.OpPause, `{"handler": "events"}`, 200, `{"handler":"events","paused":true,"changed":true}`},
		{"a pause again", app.OpPause, `{"handler": "events"}`, 200, `{"handler":"events","paused":true,"changed":false}`},
		{"how a paused one stands", app.OpHandlerList, `{}`, 200, `"paused_by":"token"`},
		{"a resumption", app.OpResume, `{"handler": "events"}`, 200, `{"handler":"events","paused":false,"changed":true}`},
		{"a release of nothing", app.OpRelease, `{}`, 422, `name entries with seqs`},
		{"a release of entries, and of all that is held", app.OpRelease, `{"seqs": [1], "restored": true}`, 422, `not both`},
		{"a release of what is not held", app.OpRelease, `{"restored": true}`, 404, `"code":"not_found"`},
		{"an erasure of nobody", app.OpErase, `{}`, 422, `name the device`},
		{"an erasure", app.OpErase, `{"device": "4155550137"}`, 200, `"entries"`},
		{"guesses at passwords", "accepts", `{}`, 403, `"code":"forbidden"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := o.ask(tt.operation, tt.request, nil)
			if status != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("%d %s; want %d with %s", status, text, tt.status, tt.want)
			}
		})
	}
	if text := o.log.String(); strings.Contains(text, "4155550137") || strings.Contains(text, token) {
		t.Error("the log holds what was asked, or the token")
	}
	if text := o.log.String(); !strings.Contains(text, `"operation":"inbox/erase","by":"token"`) {
		t.Error("the log does not tell of the erasure")
	}
}

// TestReplaysOfOneIDAtOnceAreOne: whoever comes first schedules all, and everybody is told the same sum.
func TestReplaysOfOneIDAtOnceAreOne(t *testing.T) {
	t.Parallel()
	const callbacks = 150 // more than one step of a replay takes
	o := operate(t, `services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers: {events: {type: ndjson, path: DIR/events.ndjson}}
routes: [{handlers: [events]}]
`)
	o.send(callbacks)
	var scheduled atomic.Int64
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			var r sqlite.Replayed
			if status, text := o.ask(app.OpReplay, `{"all": true, "id": "once", "rate": 0.001}`, &r); status != 200 || r.Deliveries != callbacks || r.Entries != callbacks {
				t.Errorf("%d %s", status, text)
			}
			scheduled.Add(int64(r.Scheduled))
		})
	}
	asking.Wait()
	if n := scheduled.Load(); n != callbacks {
		t.Errorf("%d deliveries were scheduled of %d callbacks", n, callbacks)
	}
}

// TestDeadLettersOverTheAPI: they are listed in pages, requeued and discarded, and it is told by whom.
func TestDeadLettersOverTheAPI(t *testing.T) {
	t.Parallel()
	o := operate(t, `services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers: {events: {type: ndjson, path: DIR/out/events.ndjson, delivery: {max_attempts: 1, breaker: {failures: 100}}}}
routes: [{handlers: [events]}]
`)
	o.breakOut()
	o.send(3)
	o.until("events", func(h app.HandlerStatus) bool { return h.Dead == 3 })

	var page app.ListDeadAnswer
	if status, text := o.ask(app.OpDeadList, `{"handler": "events", "limit": 2}`, &page); status != 200 || len(page.DeadLetters) != 2 || page.Next == nil {
		t.Fatalf("%d %s", status, text)
	}
	if d := page.DeadLetters[0]; d.Seq != 1 || d.Reason != "attempts_exhausted" || d.Attempts != 1 || !strings.Contains(d.Cause, "there is no folder") ||
		d.Service != "DeviceUsage" || time.Since(d.BuriedAt) > time.Minute {
		t.Errorf("the first is %+v", d)
	}
	next, err := json.Marshal(page.Next)
	must(t, err)
	page = app.ListDeadAnswer{}
	if _, text := o.ask(app.OpDeadList, fmt.Sprintf(`{"limit": 2, "after": %s}`, next), &page); len(page.DeadLetters) != 1 || page.DeadLetters[0].Seq != 3 || page.Next != nil {
		t.Errorf("the second page is %s", text)
	}
	if status, text := o.ask(app.OpDeadDiscard, `{"seqs": [2]}`, nil); status != 200 || !strings.Contains(text, `{"deliveries":1,"handlers":{"events":1}}`) {
		t.Errorf("discard: %d %s", status, text)
	}
	o.mendOut()
	if status, text := o.ask(app.OpDeadRequeue, `{"reason": "attempts_exhausted"}`, nil); status != 200 || !strings.Contains(text, `"deliveries":2`) {
		t.Errorf("requeue: %d %s", status, text)
	}
	o.until("events", func(h app.HandlerStatus) bool { return h.Pending == 0 })
	if got := o.seqs("out/events.ndjson"); !slices.Equal(got, []int64{1, 3}) {
		t.Errorf("the handler got %v", got)
	}
}
