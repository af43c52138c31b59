package platform

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// idleSession ends a session that nobody uses.
	idleSession = 20 * time.Minute
	// mostRefusals in a row lock a user.
	mostRefusals = 5
	// mostSessions bounds the memory of sessions, those that have ended included; the one longest unused is forgotten.
	mostSessions = 1000
)

// sessions are who may log in, and who has.
type sessions struct {
	mu      sync.Mutex
	users   map[string]*user // none is added
	open    map[string]*session
	unknown int // attempts under names that nobody has
}

type user struct {
	password          string
	accepted, refused int
	inARow            int // since the last log-in
}

func (u *user) locked() bool { return u.inARow >= mostRefusals }

type session struct {
	user string
	used time.Time
}

// UserLogIns counts how often a user tried to log in.
type UserLogIns struct {
	Username string `json:"username"`
	Accepted int    `json:"accepted"`
	Refused  int    `json:"refused"`
	Locked   bool   `json:"locked"`
}

// LogIns counts all attempts to log in, Unknown those under a name that nobody has.
type LogIns struct {
	Users   []UserLogIns `json:"users"`
	Unknown int          `json:"unknown"`
}

// newSessions lets the log-ins of the accounts in. An account of a log-in that is there has the same password.
func newSessions(accounts []Account) *sessions {
	x := &sessions{users: make(map[string]*user), open: make(map[string]*session)}
	for _, a := range accounts {
		x.users[a.Login.Username] = &user{password: a.Login.Password}
	}
	return x
}

// logIn answers with the token of a new session. A user who was refused too often in a row is locked, and refused with the right
// password too.
func (x *sessions) logIn(c Credentials, now time.Time) (token string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	u := x.users[c.Username]
	switch {
	case u == nil:
		x.unknown++
		return "", logInFailed()
	case u.locked():
		u.refused++
		return "", &soapFault{"REQUEST_FAILED.AccountLocked", "The user is locked after too many failed log-ins."}
	case subtle.ConstantTimeCompare([]byte(u.password), []byte(c.Password)) == 0:
		u.refused++
		u.inARow++
		return "", logInFailed()
	}
	u.accepted++
	u.inARow = 0
	if len(x.open) >= mostSessions {
		delete(x.open, slices.MinFunc(slices.Collect(maps.Keys(x.open)), func(a, b string) int {
			return x.open[a].used.Compare(x.open[b].used)
		}))
	}
	token = rand.Text()
	x.open[token] = &session{c.Username, now}
	return token, nil
}

func logInFailed() error {
	return &soapFault{"REQUEST_FAILED.LogInFailed", "The user name or the password is wrong."}
}

// use answers with the user of a session, which is then not idle.
func (x *sessions) use(token string, now time.Time) (user string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.open[token]
	if s == nil {
		return "", &soapFault{"INPUT_INVALID.SessionToken.Invalid", "The session token is missing or invalid."}
	}
	if now.Sub(s.used) >= idleSession {
		return "", &soapFault{"REQUEST_FAILED.SessionToken.Expired", "The session token has expired."}
	}
	s.used = now
	return s.user, nil
}

// logOut ends a session.
func (x *sessions) logOut(token string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, token)
}

// logIns counts the attempts, in the order of the names.
func (x *sessions) logIns() LogIns {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := LogIns{Users: []UserLogIns{}, Unknown: x.unknown}
	for name, u := range x.users {
		l.Users = append(l.Users, UserLogIns{name, u.accepted, u.refused, u.locked()})
	}
	slices.SortFunc(l.Users, func(a, b UserLogIns) int { return cmp.Compare(a.Username, b.Username) })
	return l
}
