package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The length of a secret that Standard Webhooks asks for.
const (
	shortestSecret = 24
	longestSecret  = 64
)

// parseSecret reads a secret as it is handed around. No error quotes it.
func parseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, "whsec_")
	if !ok {
		return nil, errors.New("does not begin with whsec_: `echo whsec_$(openssl rand -base64 32)` makes a secret")
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	switch {
	case err != nil:
		return nil, errors.New("is not base64 after whsec_: `echo whsec_$(openssl rand -base64 32)` makes a secret")
	case len(key) < shortestSecret || len(key) > longestSecret:
		return nil, fmt.Errorf("is a secret of %d bytes, and has to be one of %d to %d", len(key), shortestSecret, longestSecret)
	}
	return key, nil
}

// sign makes the webhook-signature of Standard Webhooks 1.0: one signature of each secret.
func sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
