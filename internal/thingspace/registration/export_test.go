package registration

import (
	"context"
	"time"

	"callbackd/internal/thingspace/internal/uws/registration"
)

// SetNow gives the session another clock.
func (c *Client) SetNow(now func() time.Time) { c.tokens.now = now }

// HashQuickly makes the hash of refused log-ins cheap.
func (s *State) HashQuickly() { s.iterations = 10 }

// Update is update, for tests of the files and their locks alone.
func (s *State) Update(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error {
	return s.update(ctx, name, change)
}

// Read is read.
func (s *State) Read(name string) ([]byte, error) { return s.read(name) }

// EncodeRegister writes a request with these values.
func EncodeRegister(token, account, service, url, username, password string) (string, error) {
	message := &registration.RegisterCallback{Input: &registration.RegisterCallbackRequest{
		AccountName: account, ServiceName: service, Url: url, Username: username, Password: password}}
	text, err := request{registrationService, message}.encode(token)
	return string(text), err
}

// Readings are all that is made of an answer.
type Readings struct {
	List                []Registration
	Token               string
	Fault               *Fault
	Err, ListErr, NoTok error
}

// ReadEverything reads an answer in every way.
func ReadEverything(raw []byte, charset, operation, account string, most int, secrets ...string) (r Readings) {
	a, err := readAnswer(raw, charset, most)
	if r.Err = err; err != nil {
		return r
	}
	r.Fault = a.payload.fault(operation, secrets)
	r.List, r.ListErr = a.registrations(account)
	r.Token, r.NoTok = a.sessionToken()
	return r
}
