package admin

import (
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// profilesPrefix begins the path of each profile.
const profilesPrefix = "/debug/pprof/"

// longestProfile bounds how long a profile may take.
const longestProfile = 60 // seconds

// profiles serves package net/http/pprof, one profile at a time, to who may have them: a profile costs time, and tells what callbackd does.
// None holds anything of a callback.
type profiles struct {
	// api asks for its token; nil, if there is none.
	api *entrance
	// identified reports whether nobody gets here whom the web-config does not know.
	identified func() bool
	busy       chan struct{}
	log        *zap.Logger
}

// permits says why the request is refused; nil if it is not.
func (p *profiles) permits(r *http.Request) error {
	switch {
	case p.api != nil && !p.api.knows(r.Header.Get("Authorization")):
		return Errorf(Unauthorized, "send the token of admin.token_file as `Authorization: Bearer TOKEN`")
	case p.api != nil || p.identified():
		return nil
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return Errorf(Forbidden, "profiles are for this machine alone, unless admin.token_file names a token, or admin.web_config_file asks for a user or a client certificate")
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (p *profiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := p.permits(r); err != nil {
		fault := faultOf(err)
		if fault.Code == Unauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="callbackd"`)
		}
		http.Error(w, fault.Error(), fault.Code.Status())
		return
	}
	if seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64); err == nil && !(seconds <= longestProfile) {
		http.Error(w, "seconds: a profile takes 60 at most", http.StatusBadRequest)
		return
	}
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	default:
		http.Error(w, "another profile is being taken: try again when it is done", http.StatusTooManyRequests)
		return
	}
	// The time-out for reading is for the network, and would end the request before the profile; pprof itself puts off the one for writing.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		http.Error(w, "the connection cannot wait for a profile", http.StatusInternalServerError)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, profilesPrefix)
	p.log.Info("profile", zap.String("profile", clip(name)), zap.String("source", r.RemoteAddr))
	switch name {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "cmdline":
		pprof.Cmdline(w, r)
	default:
		pprof.Index(w, r)
	}
}
