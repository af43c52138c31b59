package app

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/thingspace/registration"
)

// acceptsRequest asks whether callbacks of a service with this pair would be received. The pair is a digest under a key of the request's.
type acceptsRequest struct {
	Service callback.Service `json:"service"`
	Key     []byte           `json:"key"`
	Pair    []byte           `json:"pair"`
}

type acceptsAnswer struct {
	Received bool `json:"received"` // the service has a listener
	Accepted bool `json:"accepted"` // with that pair
}

func (o *Operator) accepts(_ context.Context, r acceptsRequest) (acceptsAnswer, error) {
	a := acceptsAnswer{Received: o.Config.Services[string(r.Service)] != nil}
	for _, pair := range o.Config.PairsFor(r.Service) {
		a.Accepted = a.Accepted || hmac.Equal(digestOf(r.Key, pair), r.Pair)
	}
	return a, nil
}

func digestOf(key []byte, pair registration.Login) []byte {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%d %s%s", len(pair.Username), pair.Username, pair.Password)
	return mac.Sum(nil)
}

// The reasons not to register a service yet.
var (
	ErrNotReceived = errors.New("the callbackd that runs does not listen for it yet, so its callbacks would be lost: " +
		"restart it with this configuration, and try again")
	ErrPairUnknown = errors.New("the callbackd that runs does not know the newest credentials yet, so it would refuse callbacks that carry them: " +
		"restart it with this configuration, and try again")
)

// askLimit bounds the asking.
const askLimit = 10 * time.Second

// ReadyFor asks the callbackd that runs on the data directory whether it would take the callbacks of a service that is registered with
// a pair. If none runs, which may well be elsewhere, there is nobody to ask, and nothing wrong.
func ReadyFor(ctx context.Context, c *config.Config, service callback.Service, pair registration.Login) error {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // does not fail: it would end the program
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var answer acceptsAnswer
	err := admin.Call(ctx, c.DataDir, opAccepts, acceptsRequest{service, key, digestOf(key, pair)}, &answer)
	switch {
	case unanswered(err):
		return nil
	case err != nil:
		return fmt.Errorf("ask the callbackd that runs whether it would take the callbacks: %w", err)
	case !answer.Received:
		return ErrNotReceived
	case !answer.Accepted:
		return ErrPairUnknown
	}
	return nil
}
