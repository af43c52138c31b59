package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// ending is how a try ended, and with the last one a message.
type ending string

const (
	acked        ending = "acked"
	refused      ending = "refused"      // an answer came that is no ack
	failed       ending = "failed"       // no connection, or it broke
	unanswered   ending = "unanswered"   // nothing came in time
	unregistered ending = "unregistered" // there is no listener
	stopped      ending = "stopped"      // the sending was, before the message had its end
)

// delivery is what came of one message.
type delivery struct {
	end     ending
	tries   int
	extra   int       // tries that went out while the one before was open
	first   time.Time // when the first try began
	failure string    // of the last try
}

// flight is the sending of some messages: of an order, or of what is resent.
type flight struct {
	*sender
	account string
	// run ends with the simulator: what is on its way then is broken off.
	run context.Context
	// busy has room for the tries that may be on their way at once. One that nobody waits for any more takes none.
	busy chan struct{}
}

// deliver sends one message, again and again, until it is acknowledged or the tries are used up; a text from a device has one alone. When
// ctx ends, no try begins any more.
func (f *flight) deliver(ctx context.Context, m Message, rng *rand.Rand) (d delivery) {
	for {
		twin := d.end == unanswered && f.profile.Overlap
		if d.tries > 0 && !twin && !wait(ctx, f.pause(rng)) {
			d.end = stopped
			return d
		}
		f.next(ctx, m, &d, rng, twin)
		switch d.end {
		case acked, stopped, unregistered:
			return d
		}
		if d.tries >= f.profile.Tries || m.FromDevice {
			return d
		}
	}
}

// next makes the next try.
func (f *flight) next(ctx context.Context, m Message, d *delivery, rng *rand.Rand, twin bool) {
	select {
	case f.busy <- struct{}{}:
	case <-ctx.Done():
		d.end = stopped
		return
	}
	defer func() { <-f.busy }()
	if ctx.Err() != nil { // select may have picked the other
		d.end = stopped
		return
	}
	r, ok := f.lookup(f.account, m.Service)
	if !ok {
		d.end, d.failure = unregistered, "no listener is registered"
		return
	}
	if d.tries++; d.tries == 1 {
		d.first = time.Now()
	}
	if twin {
		d.extra++
	}
	source := 0
	if d.tries > 1 {
		source = f.otherSource(rng)
	}
	end, err := f.try(r, m, d.tries, f.transports[source])
	d.end = end
	if err != nil {
		d.failure = short(err.Error())
	}
}

// pause is how long to wait after a refusal.
func (f *flight) pause(rng *rand.Rand) time.Duration {
	p := f.profile.Pause
	if f.profile.PauseSpread > 0 {
		p += time.Duration(rng.Int64N(int64(f.profile.PauseSpread)))
	}
	return p
}

// otherSource picks where a repeat comes from: of 17 that were measured, 5 came from another address than the try before.
func (f *flight) otherSource(rng *rand.Rand) int {
	if f.profile.OtherAddress && rng.IntN(17) < 5 {
		return 1 + rng.IntN(len(f.transports)-1)
	}
	return 0
}

// linger is how long a try stays open whose answer does not count any more, and mostLingering how many do at once: each holds a socket,
// and a sender that has none left would count as lost what the listener never saw.
const (
	linger        = 30 * time.Second
	mostLingering = 256
)

// try sends the message once and waits for what comes of it.
func (f *flight) try(r Registration, m Message, number int, transport http.RoundTripper) (ending, error) {
	body, err := prepare(m.Body, r.Credentials, number)
	if err != nil {
		return failed, err
	}
	header := http.Header{}
	if f.profile.SOAPAction {
		header.Set("SOAPAction", soapAction(m))
	}
	ctx, cut := context.WithTimeout(f.run, f.profile.AnswerTimeout+linger)
	type result struct {
		answer Answer
		err    error
	}
	done := make(chan result, 1)
	f.open.Go(func() {
		defer cut()
		answer, err := post(ctx, transport, r.URL, body, header)
		done <- result{answer, err}
	})
	patience := time.NewTimer(f.profile.AnswerTimeout)
	defer patience.Stop()
	select {
	case got := <-done:
		switch {
		case f.run.Err() != nil:
			return stopped, f.run.Err()
		case got.err != nil:
			return failed, got.err
		}
		return f.judge(got.answer)
	case <-patience.C:
		select {
		case f.lingering <- struct{}{}:
			f.open.Go(func() { <-done; <-f.lingering })
		default:
			cut()
			<-done
		}
		return unanswered, fmt.Errorf("no answer within %s", f.profile.AnswerTimeout)
	}
}

func (f *flight) judge(a Answer) (ending, error) {
	err := f.profile.Ack.check(a)
	switch {
	case err == nil:
		return acked, nil
	case a.Fault != "":
		return refused, errors.New(err.Error() + ": " + a.Fault)
	}
	return refused, err
}

// soapAction is what a client of the listener's own WSDL sends.
func soapAction(m Message) string {
	root := "CallbackRequest"
	if m.FromDevice {
		root = "SmsCallbackRequest"
	}
	return `"` + namespace + `/CallbackListener/` + root + `"`
}

// prepare is the message as one try sends it: with the credentials of the moment, and with the number of the try where it counts them.
func prepare(message []byte, c Credentials, number int) ([]byte, error) {
	return rewrite(message, func(s *soap.Scanner, path []string) (string, bool) {
		switch {
		case len(path) == 1 && path[0] == "Username":
			return c.Username, true
		case len(path) == 1 && path[0] == "Password":
			return c.Password, true
		case len(path) == 1 && path[0] == "CallbackCount", len(path) == 2 && path[0] == "Data" && path[1] == "CallbackCount":
			return strconv.Itoa(number), !s.Nil()
		}
		return "", false
	})
}

// describe reads from a message what the sender has to know of it. One that is not well-formed is refused.
func describe(service callback.Service, body []byte) (Message, error) {
	m := Message{Service: service, Body: body}
	limits := soap.Limits{Bytes: longestMessage}
	document, _, err := soap.Decode(bytes.Clone(body), "", limits)
	if err != nil {
		return m, err
	}
	var s soap.Scanner
	s.Reset(document, limits)
	envelope, err := soap.Open(&s)
	if err != nil {
		return m, err
	}
	m.FromDevice = s.Name().Local == "SmsCallbackRequest"
	within := false
	for root := s.Depth(); s.Depth() >= root; {
		token, err := s.Next()
		switch {
		case err != nil:
			return m, err
		case token == soap.Text && within:
			m.RequestID += s.Text()
		case token != soap.Text:
			within = token == soap.Start && s.Depth() == root+1 && s.Name().Local == "RequestId"
		}
	}
	return m, soap.Close(&s, envelope)
}

// short bounds a text that came from outside.
func short(text string) string {
	const longest = 300
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// wait reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
