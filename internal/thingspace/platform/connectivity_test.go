package platform_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// texts are those of SmsCallbackRequests, in the order that they came.
func texts(messages []string) (list []string) {
	for _, m := range messages {
		_, rest, _ := strings.Cut(m, "<SmsMessage>")
		text, _, _ := strings.Cut(rest, "</SmsMessage>")
		list = append(list, text)
	}
	return list
}

// send has a device send a text.
func (in *instance) send(text string) bool {
	in.Helper()
	acked, err := in.SendSMS(in.Context(), platform.SMS{MDN: "5125550100", Text: text})
	if err != nil {
		in.Fatal(err)
	}
	return acked
}

// startSMS asks for what waits, and waits until so many still do.
func (in *instance) startSMS(token string, left int) {
	in.Helper()
	in.call(connectivityService, "StartSmsCallback", token, "AccountName", account)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for flushed := 0; flushed == 0; {
		select {
		case <-tick.C:
			flushed = in.logs.FilterMessage("queued SMS sent").Len() + in.logs.FilterMessage("queued SMS stay").Len()
		case <-deadline:
			in.Fatal("the queue is not sent")
		}
	}
	in.logs.TakeAll()
	if got := in.waiting(); got != left {
		in.Errorf("%d wait, want %d", got, left)
	}
}

func (in *instance) waiting() int {
	in.Helper()
	for _, q := range in.SMSQueues() {
		if q.Account == account {
			return q.Waiting
		}
	}
	in.Fatal("the account has no queue")
	return 0
}

// TestSMSWaitUntilTheyAreAskedFor: without a listener, or after a failure; in order; and never by themselves.
func TestSMSWaitUntilTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	in, _ := serve(t)
	token := in.logIn(login)
	l := listen(t)
	if in.send("1") || in.send("2") {
		t.Error("acknowledged without a listener")
	}
	in.register(token, connectivityService, l.URL, platform.Credentials{Username: "u", Password: "p"})
	if !in.send("direct <&> \n ü") {
		t.Error("not acknowledged")
	}
	got := l.received()
	if !slices.Equal(texts(got), []string{"direct &lt;&amp;&gt; \n ü"}) || !strings.Contains(got[0], "<Username>u</Username><Password>p</Password>") {
		t.Errorf("received %q", got)
	}
	l.answer(http.StatusServiceUnavailable)
	if in.send("3") {
		t.Error("a refusal is an acknowledgement")
	}
	if got := texts(l.received()); !slices.Equal(got, []string{"3"}) {
		t.Errorf("a text was tried as %q, want once", got)
	}
	in.startSMS(token, 3)
	if got := texts(l.received()); !slices.Equal(got, []string{"1"}) {
		t.Errorf("a listener that refuses was sent %q, want the first alone", got)
	}
	l.answer(http.StatusOK)
	in.send("new")
	if got := texts(l.received()); !slices.Equal(got, []string{"new"}) || in.waiting() != 3 {
		t.Errorf("the queue moved by itself: %q, %d wait", got, in.waiting())
	}
	in.startSMS(token, 0)
	if got := texts(l.received()); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("the queue was sent as %q", got)
	}
	in.call(connectivityService, "StartSmsCallback", token, "AccountName", account) // of an empty queue
}

// TestTheQueueIsSentOnce: whoever asks for it while it is being sent changes neither order nor number.
func TestTheQueueIsSentOnce(t *testing.T) {
	t.Parallel()
	in, _ := serve(t)
	token := in.logIn(login)
	l := listen(t)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		in.send(want[i])
	}
	in.register(token, connectivityService, l.URL, platform.Credentials{})
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() {
			in.post(connectivityService, envelope(connectivityService, "StartSmsCallback", token, members("AccountName", account)))
		})
	}
	in.startSMS(token, 0)
	asking.Wait()
	if got := texts(l.received()); !slices.Equal(got, want) {
		t.Errorf("sent as %q", got)
	}
}

// TestTheQueueOfSMSIsBounded: the oldest go, and are counted.
func TestTheQueueOfSMSIsBounded(t *testing.T) {
	t.Parallel()
	in, remote := serve(t)
	const most, over = 10_000, 3
	for i := range most + over {
		in.send(fmt.Sprint(i))
	}
	queues, err := remote.SMSQueues(t.Context())
	want := []platform.SMSQueue{{Account: account, Waiting: most, Dropped: over}, {Account: otherAccount}, {Account: foreign}}
	if err != nil || !slices.Equal(queues, want) {
		t.Errorf("%v, %v; want %v", queues, err, want)
	}
	if n := in.logs.FilterMessage("SMS queued until StartSmsCallback").FilterFieldKey("oldest_dropped").Len(); n != most+over {
		t.Errorf("%d lines tell of it", n)
	}
}

// TestTheOldPasswordStaysForAWhile: by the profile, and by the clock.
func TestTheOldPasswordStaysForAWhile(t *testing.T) {
	t.Parallel()
	observed, published := platform.Profiles()[1], platform.Profiles()[0]
	for name, c := range map[string]struct {
		profile platform.Profile
		clock   float64
		between time.Duration // unregistered for so long
		after   time.Duration // registered anew
		want    string
	}{
		"at once":                          {profile: observed, want: "old"},
		"for 9.5 minutes":                  {profile: observed, after: 9*time.Minute + 29*time.Second, want: "old"},
		"not after 14":                     {profile: observed, after: 14*time.Minute + time.Second, want: "new"},
		"not where it is forgotten":        {profile: observed, between: 15 * time.Minute, want: "new"},
		"nor by what is published":         {profile: published, want: "new"},
		"60 times shorter, for 9.5 s":      {profile: observed, clock: 60, after: 9 * time.Second, want: "old"},
		"60 times shorter, not after 14 s": {profile: observed, clock: 60, after: 15 * time.Second, want: "new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			in, _ := serve(t, func(o *platform.Options) { o.Profile, o.Clock = c.profile, c.clock })
			token := in.logIn(login)
			in.register(token, "DeviceUsage", l.URL, platform.Credentials{Username: "u", Password: "old"})
			in.call(registrationService, "UnregisterCallback", token, "AccountName", account, "ServiceName", "DeviceUsage")
			in.clock.advance(c.between)
			in.register(token, "DeviceUsage", l.URL+"/new", platform.Credentials{Username: "u", Password: "new"})
			in.clock.advance(c.after)
			if _, err := in.Send(t.Context(), platform.Order{Services: []callback.Service{callback.DeviceUsage}, Count: 1}, nil); err != nil {
				t.Fatal(err)
			}
			if got := l.received(); len(got) != 1 || !strings.Contains(got[0], "<Password>"+c.want+"</Password>") {
				t.Errorf("sent %q, want the %s password", got, c.want)
			}
			if list := in.Registrations(); list[0].Credentials.Password != "new" || list[0].URL != l.URL+"/new" {
				t.Error("the registration itself is not the new one")
			}
		})
	}
}
