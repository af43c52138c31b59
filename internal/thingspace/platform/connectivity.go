package platform

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"callbackd/internal/callback"

	"go.uber.org/zap"
)

const (
	// mostSMS and mostSMSBytes bound what waits for StartSmsCallback in one account. The platform's own bound is not published.
	mostSMS      = 10_000
	mostSMSBytes = 64 << 20
	// longestSMS bounds one text, in bytes. Networks split a longer one.
	longestSMS = 2000
)

// smsQueue holds texts of devices that no listener took. They wait until the account asks for them.
type smsQueue struct {
	mu       sync.Mutex
	accounts map[string]*smsOf // all accounts; none is added
}

type smsOf struct {
	waiting  [][]byte // messages, the oldest first
	bytes    int      // of them
	dropped  int
	flushing bool
}

// SMSQueue counts an account's texts that wait for StartSmsCallback, and those that were dropped because too many waited.
type SMSQueue struct {
	Account string `json:"account"`
	Waiting int    `json:"waiting"`
	Dropped int    `json:"dropped"`
}

func newSMSQueue(accounts []Account) *smsQueue {
	q := &smsQueue{accounts: make(map[string]*smsOf)}
	for _, a := range accounts {
		q.accounts[a.Name] = &smsOf{}
	}
	return q
}

// put appends a message, or puts it back in front. Where too many wait, the oldest go.
func (q *smsQueue) put(account string, message []byte, back bool) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.accounts[account]
	at := len(of.waiting)
	if back {
		at = 0
	}
	of.waiting = slices.Insert(of.waiting, at, message)
	of.bytes += len(message)
	for len(of.waiting) > mostSMS || of.bytes > mostSMSBytes {
		of.pop()
		of.dropped++
		dropped = true
	}
	return dropped
}

// pop removes the oldest message.
func (of *smsOf) pop() []byte {
	message := of.waiting[0]
	of.waiting[0] = nil // so that it is let go
	of.waiting = of.waiting[1:]
	of.bytes -= len(message)
	return message
}

// begin reports whether the caller is to flush the queue: not if it is empty, or somebody does already.
func (q *smsQueue) begin(account string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.accounts[account]
	if of.flushing || len(of.waiting) == 0 {
		return false
	}
	of.flushing = true
	return true
}

// take removes the oldest message. When there is none, the flushing is over.
func (q *smsQueue) take(account string) ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.accounts[account]
	if len(of.waiting) == 0 {
		of.flushing = false
		return nil, false
	}
	return of.pop(), true
}

// giveUp ends the flushing with a message that was not taken.
func (q *smsQueue) giveUp(account string, message []byte) {
	q.put(account, message, true)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accounts[account].flushing = false
}

// counts are in the order of the accounts' names.
func (q *smsQueue) counts() []SMSQueue {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []SMSQueue
	for account, of := range q.accounts {
		list = append(list, SMSQueue{account, len(of.waiting), of.dropped})
	}
	slices.SortFunc(list, func(a, b SMSQueue) int { return cmp.Compare(a.Account, b.Account) })
	return list
}

// connectivityService is EnhancedConnectivityService as far as it is about texts from devices.
func (s *Simulator) connectivityService() soapService {
	return soapService{"EnhancedConnectivityService", "enhanced-connectivity.wsdl", []operation{
		{name: "StartSmsCallback", members: []string{"AccountName"}, run: s.startSMSCallback},
	}}
}

// startSMSCallback has the queue sent to the listener. The answer does not wait for that.
func (s *Simulator) startSMSCallback(ctx context.Context, c *call) (answer, error) {
	account, err := s.account(c)
	if err != nil {
		return answer{}, err
	}
	if _, ok := s.registry.lookup(account, callback.EnhancedConnectivityService, s.options.Now()); !ok {
		return answer{}, &soapFault{"REQUEST_FAILED.CallbackNotRegistered", errNotHeld.Error()}
	}
	return answer{}, s.start(ctx, func(ctx context.Context) { s.flushSMS(ctx, account) })
}

// flushSMS sends what waits, in order, until a message is not taken: that one and those behind it go on waiting.
func (s *Simulator) flushSMS(ctx context.Context, account string) {
	if !s.sms.begin(account) {
		return
	}
	sent := 0
	for {
		message, ok := s.sms.take(account)
		if !ok {
			s.log.Info("queued SMS sent", zap.String("account", account), zap.Int("sent", sent))
			return
		}
		if err := s.sendSMS(ctx, account, message); err != nil {
			s.sms.giveUp(account, message)
			s.log.Warn("queued SMS stay", zap.String("account", account), zap.Int("sent", sent), zap.Error(err))
			return
		}
		sent++
	}
}

// deviceSMS is a text from a device: it goes to the listener, once, or waits for StartSmsCallback, and is never sent again by itself.
// It reports whether it was acknowledged.
func (s *Simulator) deviceSMS(ctx context.Context, account string, message []byte) bool {
	err := s.sendSMS(ctx, account, message)
	if err == nil {
		return true
	}
	dropped := s.sms.put(account, message, false)
	s.log.Info("SMS queued until StartSmsCallback", zap.String("account", account), zap.NamedError("why", err), zap.Bool("oldest_dropped", dropped))
	return false
}

// sendSMS is one try.
func (s *Simulator) sendSMS(ctx context.Context, account string, message []byte) error {
	return s.sender.sendOne(ctx, account, Message{Service: callback.EnhancedConnectivityService, FromDevice: true, Body: message})
}

// SMS is a text that a device sends.
type SMS struct {
	Account string `json:"account"`
	// MDN is the telephone number of the device.
	MDN  string `json:"mdn"`
	Text string `json:"text"`
}

// message writes the callback that carries the text, without credentials.
func (m SMS) message() ([]byte, error) {
	if len(m.Text) > longestSMS || len(m.MDN) > 20 {
		return nil, fmt.Errorf("SMS: a text has up to %d bytes, and a number up to 20", longestSMS)
	}
	for _, value := range []string{m.MDN, m.Text} {
		if err := writable(value); err != nil {
			return nil, fmt.Errorf("SMS: %w", err)
		}
	}
	return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">` +
		`<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">` +
		`<SmsCallbackRequest xmlns="` + namespace + `"><Username/><Password/><Device>` + element("Kind", "mdn") + element("Identifier", m.MDN) +
		`</Device>` + element("SmsMessage", m.Text) + `</SmsCallbackRequest></s:Body></s:Envelope>`), nil
}
