package receiver

import (
	"net/http"
	"strconv"
	"strings"

	"callbackd/wsdl"
)

// asksForWSDL recognises ?wsdl and its relatives, in any letter case.
func asksForWSDL(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for key := range r.URL.Query() {
		if strings.EqualFold(key, "wsdl") || strings.EqualFold(key, "singleWsdl") {
			return true
		}
	}
	return false
}

// describe answers with the WSDL of the service, at the address that it was asked for at.
func (in *intake) describe(w http.ResponseWriter, r *http.Request, e *event) error {
	address := in.service.PublicURL
	if address == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		address = scheme + "://" + r.Host + r.URL.EscapedPath()
	}
	body, err := wsdl.Listener(address)
	if err != nil {
		return err
	}
	e.outcome = described
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	in.lastAnswer(w)
	_, _ = w.Write(body) // the client may be gone; for HEAD net/http leaves the body out
	return nil
}
