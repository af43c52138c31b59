package platform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-chi/chi/v5"
)

// mostControl bounds a request to the control interface: it may hold a message.
const mostControl = 80 << 20

// control serves the control interface.
func (s *Simulator) control(router chi.Router) {
	router.Use(localOnly)
	router.Get("/registrations", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Registrations()) })
	router.Get("/log-ins", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.LogIns()) })
	router.Get("/sms", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.SMSQueues()) })
	router.Post("/sms", s.controlSMS)
	router.Post("/send", s.controlSend)
	router.Post("/send/{name}", s.controlSend)
	router.Delete("/send/{name}", s.controlStop)
	router.Get("/archive", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, append([]Archived{}, s.Archive()...))
	})
	router.Post("/archive/resend", s.controlResend)
}

// localOnly lets programs of this machine in, and no page that a browser shows from elsewhere: neither one that posts here (Origin),
// nor one whose name was made to point here (Host).
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		switch {
		case !isLoopbackAddress(r.RemoteAddr):
			refuse(w, http.StatusForbidden, errors.New("the control interface is for this machine alone"))
		case !isLoopbackAddress(r.Host):
			refuse(w, http.StatusForbidden, fmt.Errorf("the control interface is addressed as 127.0.0.1, [::1] or localhost, not %q", shorten(r.Host)))
		case origin != "" && origin != "http://"+r.Host:
			refuse(w, http.StatusForbidden, fmt.Errorf("the control interface is not for pages from %q", shorten(origin)))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// SMSResult is what became of a text that a device sent.
type SMSResult struct {
	// Delivered says that the listener acknowledged it. Otherwise it waits for StartSmsCallback.
	Delivered bool `json:"delivered"`
}

func (s *Simulator) controlSMS(w http.ResponseWriter, r *http.Request) {
	var m SMS
	if !readJSON(w, r, &m) {
		return
	}
	delivered, err := s.SendSMS(r.Context(), m)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	writeJSON(w, http.StatusOK, SMSResult{delivered})
}

// failure is an answer of the control interface that is none.
type failure struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, err error) { writeJSON(w, status, failure{err.Error()}) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// readJSON reads the one JSON value of a request, or refuses it and reports false.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostControl))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON value")
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read request: %w", err))
	}
	return err == nil
}
