package registration_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/thingspace/registration"
)

const wrong = "X.REQUEST_FAILED.LogInFailed"

// strict is a server that takes one password alone, and the options of a client with another; dir is the data directory.
func strict(t *testing.T) (s *server, o registration.Options, dir string) {
	t.Helper()
	s = newServer(t)
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	s.answer("LogIn", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(s.last().body, ">right<") {
			output("LogIn", `<a:SessionToken>t</a:SessionToken>`)(w, r)
			return
		}
		fault(http.StatusInternalServerError, wrong, "uws / wr0ng-one is wrong")(w, r)
	})
	dir = t.TempDir()
	o = options(t, s)
	o.State, o.Login = openState(t, dir), registration.Login{Username: "uws", Password: "wr0ng-one"}
	return s, o, dir
}

func openState(t *testing.T, dir string) *registration.State {
	t.Helper()
	state, err := registration.OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	state.HashQuickly()
	return state
}

func loginsFile(dir string) string { return filepath.Join(dir, "registrations", "logins.json") }

// start has a new client with these options call something, as another start of a command would.
func start(t *testing.T, o registration.Options) error {
	t.Helper()
	return newClient(t, o).StartSMS(t.Context(), account)
}

// TestARefusedLogInIsRemembered: by no call, client or start, until the log-in changes.
func TestARefusedLogInIsRemembered(t *testing.T) {
	t.Parallel()
	s, o, dir := strict(t)
	c := newClient(t, o)
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	c.SetNow(func() time.Time { return now })
	first := c.StartSMS(t.Context(), account)
	var fault *registration.Fault
	if !errors.Is(first, registration.ErrLogInRefused) || !errors.As(first, &fault) || fault.Code != "LogInFailed" {
		t.Fatalf("the first try: %v", first)
	}
	again := c.StartSMS(t.Context(), account)
	o.State = openState(t, dir)
	restarted := start(t, o)
	for _, err := range []error{first, again, restarted} {
		if !errors.Is(err, registration.ErrLogInRefused) {
			t.Fatalf("got %v, want a refusal", err)
		}
		for _, want := range []string{`"uws"`, s.URL + "/api/v2", "REQUEST_FAILED.LogInFailed", "2026-01-02T03:04:05Z", "five failures lock", "uws_username", loginsFile(dir)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v\nlacks %s", err, want)
			}
		}
		if strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%v\nshows the password", err)
		}
	}
	if n := s.count("LogIn"); n != 1 {
		t.Errorf("%d log-ins, want one", n)
	}
	s.answer("LogIn", output("LogIn", `<a:SessionToken>t</a:SessionToken>`))
	if err := os.Remove(loginsFile(dir)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.StartSMS(t.Context(), account), start(t, o)); err != nil {
		t.Errorf("the account was unlocked and the file removed: %v", err)
	}
}

// TestAChangedLogInIsTried: each of user, password and platform makes another log-in of it.
func TestAChangedLogInIsTried(t *testing.T) {
	t.Parallel()
	for rule, change := range map[string]func(o *registration.Options){
		"password": func(o *registration.Options) { o.Login.Password = "wr0ng-two" },
		"user":     func(o *registration.Options) { o.Login.Username = "other" },
		"platform": func(o *registration.Options) { o.URL += "/v3" },
		"parts":    func(o *registration.Options) { o.Login = registration.Login{Username: "uws wr0ng", Password: "-one"} },
	} {
		s, o, _ := strict(t)
		_ = start(t, o)
		changed := o
		change(&changed)
		for range 2 {
			if err := errors.Join(start(t, changed), start(t, o)); !errors.Is(err, registration.ErrLogInRefused) {
				t.Errorf("%s: %v", rule, err)
			}
		}
		if n := s.count("LogIn"); n != 2 {
			t.Errorf("%s: %d log-ins, want one for each", rule, n)
		}
	}
}

// TestASuccessForgetsNoOtherPassword: of two accounts with one user, the one with the wrong password would try it after each success of the other.
func TestASuccessForgetsNoOtherPassword(t *testing.T) {
	t.Parallel()
	s, o, _ := strict(t)
	right := o
	right.Login.Password = "right"
	for range 3 {
		if err := start(t, right); err != nil {
			t.Fatal(err)
		}
		if err := start(t, o); !errors.Is(err, registration.ErrLogInRefused) {
			t.Errorf("got %v", err)
		}
	}
	if n := s.count("LogIn"); n != 4 {
		t.Errorf("%d log-ins, want three that succeed and one", n)
	}
}

// TestASuccessMakesRoomForMoreRefusals, of the years to come: the newest stay.
func TestASuccessMakesRoomForMoreRefusals(t *testing.T) {
	t.Parallel()
	s, o, _ := strict(t)
	with := func(password string) error {
		changed := o
		changed.Login.Password = password
		return start(t, changed)
	}
	for i := range 15 {
		_ = with(fmt.Sprintf("wr0ng-%d", i))
	}
	if err := with("right"); err != nil {
		t.Fatal(err)
	}
	before := s.count("LogIn")
	for i := 7; i < 20; i++ {
		if err := with(fmt.Sprintf("wr0ng-%d", i)); !errors.Is(err, registration.ErrLogInRefused) || strings.Contains(err.Error(), "passwords of user") {
			t.Errorf("password %d: %v", i, err)
		}
	}
	if n := s.count("LogIn") - before; n != 5 {
		t.Errorf("%d log-ins, want those with the five new passwords", n)
	}
}

// TestTheFileOfRefusalsGivesNothingAway: not the password, and nothing to those who do not own it.
func TestTheFileOfRefusalsGivesNothingAway(t *testing.T) {
	t.Parallel()
	_, o, dir := strict(t)
	_ = start(t, o)
	err := filepath.WalkDir(filepath.Join(dir, "registrations"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "wr0ng") {
			t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsNoRefusal: what the platform did not judge may be tried again.
func TestWhatIsNoRefusal(t *testing.T) {
	t.Parallel()
	for rule, answer := range map[string]http.HandlerFunc{
		"a server that fails": raw(http.StatusInternalServerError, "text/html", "<html/>"),
		"an unknown action":   fault(http.StatusInternalServerError, "a:ActionNotSupported", "The message with Action '' cannot be processed"),
		"an unread request":   fault(http.StatusInternalServerError, "SessionService.INPUT_INVALID.DeserializationFailed", ""),
		"a gateway":           raw(http.StatusBadGateway, xmlType, "<html/>"),
		"a web page":          raw(http.StatusOK, "text/html", "<html/>"),
		"a broken connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no token":            output("LogIn", ``),
	} {
		s, o, dir := strict(t)
		s.answer("LogIn", answer, output("LogIn", `<a:SessionToken>t</a:SessionToken>`))
		if err := start(t, o); err == nil || errors.Is(err, registration.ErrLogInRefused) {
			t.Errorf("%s: %v", rule, err)
		}
		if err := start(t, o); err != nil {
			t.Errorf("%s: the next try: %v", rule, err)
		}
		if _, err := os.Stat(loginsFile(dir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// TestManyRefusedPasswordsAreEnough: beyond a bound nothing is forgotten and nothing tried.
func TestManyRefusedPasswordsAreEnough(t *testing.T) {
	t.Parallel()
	s, o, dir := strict(t)
	for i := range 20 {
		o.Login.Password = fmt.Sprintf("wr0ng-%d", i)
		err := start(t, o)
		if !errors.Is(err, registration.ErrLogInRefused) {
			t.Fatal(err)
		}
		if said := strings.Contains(err.Error(), "16 passwords"); said != (i >= 16) || said && !strings.Contains(err.Error(), loginsFile(dir)) {
			t.Errorf("password %d: %v", i, err)
		}
	}
	if n := s.count("LogIn"); n != 16 {
		t.Errorf("%d log-ins, want 16", n)
	}
}

// TestARefusalThatCannotBeRecorded holds for the client that saw it, and says so.
func TestARefusalThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	s, o, dir := strict(t)
	s.answer("LogIn", func(w http.ResponseWriter, r *http.Request) {
		if err := os.RemoveAll(filepath.Join(dir, "registrations")); err != nil {
			t.Error(err)
		}
		fault(http.StatusInternalServerError, wrong, "")(w, r)
	})
	c := newClient(t, o)
	for range 2 {
		err := c.StartSMS(t.Context(), account)
		if !errors.Is(err, registration.ErrLogInRefused) {
			t.Errorf("got %v", err)
		}
	}
	if n := s.count("LogIn"); n != 1 {
		t.Errorf("%d log-ins, want one", n)
	}
}

// TestNoLogInIsTriedWhoseRefusalCouldNotBeRecorded: each command would spend another of the five.
func TestNoLogInIsTriedWhoseRefusalCouldNotBeRecorded(t *testing.T) {
	t.Parallel()
	s, o, dir := strict(t)
	if err := os.Mkdir(loginsFile(dir)+".probe", 0o700); err != nil { // which no file replaces
		t.Fatal(err)
	}
	if err := start(t, o); err == nil || errors.Is(err, registration.ErrLogInRefused) || !strings.Contains(err.Error(), "nothing is tried") {
		t.Errorf("got %v", err)
	}
	if n := s.count("LogIn"); n != 0 {
		t.Errorf("%d log-ins", n)
	}
}

// TestAFileThatCannotBeUnderstoodStopsLogIns: it may hold a refusal.
func TestAFileThatCannotBeUnderstoodStopsLogIns(t *testing.T) {
	t.Parallel()
	for rule, text := range map[string]string{
		"nothing":          ``,
		"half of it":       `{"version":1,"users":[{"url":"h`,
		"another version":  `{"version":2}`,
		"no iterations":    `{"version":1,"users":[{"url":"u","username":"n","iterations":0}]}`,
		"endless work":     `{"version":1,"users":[{"url":"u","username":"n","iterations":2000000000}]}`,
		"something else":   `[]`,
		"more than a file": strings.Repeat(" ", 1<<20+1),
	} {
		s, o, dir := strict(t)
		write(t, loginsFile(dir), text)
		o.Login.Password = "right"
		if err := start(t, o); err == nil || !strings.Contains(err.Error(), loginsFile(dir)) || s.count("LogIn") != 0 {
			t.Errorf("%s: %v, %d log-ins", rule, err, s.count("LogIn"))
		}
		if got, err := os.ReadFile(loginsFile(dir)); err != nil || string(got) != text {
			t.Errorf("%s: the file was changed", rule)
		}
	}
}

// TestClientsAtOnceSpendOneTry: the lock is held over the log-in.
func TestClientsAtOnceSpendOneTry(t *testing.T) {
	t.Parallel()
	s, o, dir := strict(t)
	var group sync.WaitGroup
	for range 8 {
		o := o
		o.State = openState(t, dir)
		c := newClient(t, o)
		group.Go(func() {
			if err := c.StartSMS(t.Context(), account); !errors.Is(err, registration.ErrLogInRefused) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := s.count("LogIn"); n != 1 {
		t.Errorf("%d log-ins with one wrong password, want one", n)
	}
}

// TestProcessesAtOnceSpendOneTry is the same with processes: the test binary runs this very test again, which then is one of them.
func TestProcessesAtOnceSpendOneTry(t *testing.T) {
	t.Parallel()
	const (
		urlOf, dirOf = "REGISTRATION_TEST_URL", "REGISTRATION_TEST_DIR"
		saidRefused  = "refused, as it should be"
	)
	if url := os.Getenv(urlOf); url != "" {
		state, err := registration.OpenState(os.Getenv(dirOf))
		if err != nil {
			t.Fatal(err)
		}
		o := registration.Options{URL: url, State: state, Login: registration.Login{Username: "uws", Password: "wr0ng-one"}}
		if err := start(t, o); !errors.Is(err, registration.ErrLogInRefused) {
			t.Fatal(err)
		}
		fmt.Println(saidRefused)
		return
	}
	s, _, dir := strict(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesAtOnceSpendOneTry$")
			run.Env = append(os.Environ(), urlOf+"="+s.URL, dirOf+"="+dir)
			if said, err := run.CombinedOutput(); err != nil || !strings.Contains(string(said), saidRefused) {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
	group.Wait()
	if n := s.count("LogIn"); n != 1 {
		t.Errorf("%d log-ins of 4 processes with one wrong password, want one", n)
	}
}
