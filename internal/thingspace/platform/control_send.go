package platform

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
)

// sending is one line of what answers an order: how far it is, or how it ended.
type sending struct {
	Progress *Progress `json:"progress,omitempty"`
	Report   *Report   `json:"report,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// controlSend carries out an order. The order ends when the client goes, or has it stopped by its name.
func (s *Simulator) controlSend(w http.ResponseWriter, r *http.Request) {
	var o Order
	if !readJSON(w, r, &o) {
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	if name := chi.URLParam(r, "name"); name != "" {
		if _, taken := s.stops.LoadOrStore(name, stop); taken {
			refuse(w, http.StatusConflict, fmt.Errorf("an order of the name %q is under way", shorten(name)))
			return
		}
		defer s.stops.Delete(name)
	}
	var mu sync.Mutex
	begun := false
	write := func(line sending) {
		mu.Lock()
		defer mu.Unlock()
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		_ = json.NewEncoder(w).Encode(line) // when the client is gone the context ends
		_ = http.NewResponseController(w).Flush()
	}
	report, err := s.Send(ctx, o, func(p Progress) { write(sending{Progress: &p}) })
	switch {
	case err == nil:
		write(sending{Report: &report})
	case begun || len(report.Services) > 0:
		write(sending{Report: &report, Error: err.Error()})
	default:
		refuse(w, http.StatusUnprocessableEntity, err)
	}
}

// controlStop stops an order. Its report goes to the client who gave it.
func (s *Simulator) controlStop(w http.ResponseWriter, r *http.Request) {
	stop, ok := s.stops.Load(chi.URLParam(r, "name"))
	if !ok {
		refuse(w, http.StatusNotFound, errors.New("no order of this name is under way"))
		return
	}
	stop.(context.CancelFunc)()
	writeJSON(w, http.StatusOK, struct{}{})
}

// Selection says what is resent: the messages of a RequestId, or all.
type Selection struct {
	RequestID string `json:"request_id,omitempty"`
	All       bool   `json:"all,omitempty"`
}

// Resent counts the messages that were acknowledged now. Error says what became of the others.
type Resent struct {
	Acked int    `json:"acked"`
	Error string `json:"error,omitempty"`
}

func (s *Simulator) controlResend(w http.ResponseWriter, r *http.Request) {
	var what Selection
	if !readJSON(w, r, &what) {
		return
	}
	acked, err := 0, error(nil)
	switch {
	case what.All == (what.RequestID != ""):
		err = errors.New("name a request_id, or all")
	case what.All:
		acked, err = s.ResendAll(r.Context())
	default:
		acked, err = s.Resend(r.Context(), what.RequestID)
	}
	switch {
	case errors.Is(err, ErrNotArchived):
		refuse(w, http.StatusNotFound, err)
	case err != nil && acked == 0:
		refuse(w, http.StatusUnprocessableEntity, err)
	case err != nil:
		writeJSON(w, http.StatusOK, Resent{acked, err.Error()})
	default:
		writeJSON(w, http.StatusOK, Resent{Acked: acked})
	}
}

// Send has an order carried out, and hands on its progress. When ctx ends it is stopped, which is an error; the report, which waits for
// the answers that are on their way, holds what was done until then.
func (r *Remote) Send(ctx context.Context, o Order, progress func(Progress)) (Report, error) {
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
	}
	path := "send/" + rand.Text()
	within, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	defer context.AfterFunc(ctx, func() {
		defer leave()
		patience, enough := context.WithTimeout(within, Timeout+time.Second)
		defer enough()
		if r.call(patience, http.MethodDelete, path, nil, &struct{}{}) == nil {
			<-patience.Done()
		}
	})()
	response, err := r.do(within, http.MethodPost, path, o)
	if err != nil {
		return Report{}, err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(bufio.NewReader(response.Body))
	for {
		var line sending
		if err := decoder.Decode(&line); err != nil {
			return Report{}, fmt.Errorf("read the simulator's progress: %w", err)
		}
		if line.Progress != nil && progress != nil {
			progress(*line.Progress)
		}
		if line.Report != nil {
			if line.Error != "" {
				return *line.Report, cmp.Or(ctx.Err(), errors.New(line.Error))
			}
			return *line.Report, nil
		}
	}
}

// Archive lists the messages that were never acknowledged, the oldest first.
func (r *Remote) Archive(ctx context.Context) (list []Archived, err error) {
	err = r.call(ctx, http.MethodGet, "archive", nil, &list)
	return list, err
}

// Resend sends archived messages again and returns how many were acknowledged; the error says what became of the others. Where there
// is none to send, it is [ErrNotArchived].
func (r *Remote) Resend(ctx context.Context, what Selection) (acked int, err error) {
	var result Resent
	if err := r.call(ctx, http.MethodPost, "archive/resend", what, &result); err != nil {
		return 0, err
	}
	if result.Error != "" {
		return result.Acked, errors.New(result.Error)
	}
	return result.Acked, nil
}
