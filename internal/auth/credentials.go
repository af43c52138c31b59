package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap/zapcore"

	"callbackd/internal/callback"
)

// Anonymous is the label, and the id, of callbacks without credentials. No configured pair may bear it.
const Anonymous = "anonymous"

const (
	mostPlatform = 40 // characters of a user name or password that the platform takes
	mostLabel    = 64 // bytes of a label or id: they become label values of metrics
)

// Credential is one pair that the platform may send.
//
// During a rotation two pairs bear the same Label, since the platform sends the old one for up to 15 minutes after the
// registration of the new one; their IDs tell them apart, so that the metric shows when the old one has gone silent.
type Credential struct {
	Label    string // of the account, say; outlives a rotation
	ID       string // of this pair within its label; may be empty if it is the only one, and is then the label
	Username string
	Password Password
	Services []callback.Service // on which the pair is valid; empty: on all
}

// MarshalLogObject implements [zapcore.ObjectMarshaler], without the password.
func (c Credential) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("label", c.Label)
	enc.AddString("id", c.id())
	enc.AddString("username", c.Username)
	return enc.AddReflected("services", c.Services)
}

func (c Credential) id() string {
	if c.ID == "" {
		return c.Label
	}
	return c.ID
}

// services lists those on which the pair is valid, each once.
func (c Credential) services() []callback.Service {
	if len(c.Services) == 0 {
		return allServices()
	}
	services := slices.Clone(c.Services)
	slices.Sort(services)
	return slices.Compact(services)
}

func allServices() []callback.Service {
	var services []callback.Service
	for _, info := range callback.Catalogue() {
		services = append(services, info.Service)
	}
	return services
}

// Match says which pair a callback bore. Its values come from the configuration: it may be logged and counted.
type Match struct{ Label, ID string }

// CredentialGate knows the pairs that are valid on each service. It holds keyed digests of them, not the pairs.
type CredentialGate struct {
	digest   func(username, password string) digest
	pairs    map[callback.Service][]pair
	count    int
	warnings []Problem
	metrics  *Metrics
}

type digest [sha256.Size]byte

type pair struct {
	digest digest
	match  Match
	count  func() // one more callback that bore it
}

// NewCredentialGate builds the gate, or reports every [Problem] at once, joined. allowAnonymous makes the empty pair valid on
// every service. metrics may be nil, as for a dry run.
func NewCredentialGate(credentials []Credential, allowAnonymous bool, metrics *Metrics) (*CredentialGate, error) {
	if problems := ValidateCredentials(credentials, allowAnonymous); len(problems) > 0 {
		return nil, join(problems)
	}
	g := &CredentialGate{
		digest:   newDigest(),
		pairs:    map[callback.Service][]pair{},
		count:    len(credentials),
		warnings: credentialWarnings(credentials, allowAnonymous),
		metrics:  metrics,
	}
	for _, c := range credentials {
		g.add(c.Username, c.Password, c.services(), Match{c.Label, c.id()})
	}
	if allowAnonymous {
		g.add("", Password{}, allServices(), Match{Anonymous, Anonymous})
	}
	return g, nil
}

// NewSoleGate builds a gate that knows one pair, on one service, which need not be in the catalogue: for a listener that callbackd alone calls.
func NewSoleGate(service callback.Service, c Credential, metrics *Metrics) *CredentialGate {
	g := &CredentialGate{digest: newDigest(), pairs: map[callback.Service][]pair{}, count: 1, metrics: metrics}
	g.add(c.Username, c.Password, []callback.Service{service}, Match{c.Label, c.id()})
	return g
}

func (g *CredentialGate) add(username string, password Password, services []callback.Service, match Match) {
	d := g.digest(username, password.reveal())
	for _, s := range services {
		g.pairs[s] = append(g.pairs[s], pair{d, match, g.metrics.credential(s, match)})
	}
}

// newDigest returns a digest of pairs under a fresh random key. Equal length of all digests hides that of the passwords; the
// key, which only the closure holds, makes a dump of them useless.
func newDigest() func(username, password string) digest {
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // does not fail: it would end the program
	return func(username, password string) digest {
		text := append(make([]byte, 0, 256), key[:]...)                   // on the stack, for a pair of any usual length
		text = binary.BigEndian.AppendUint64(text, uint64(len(username))) // parts ("ab", "c") from ("a", "bc")
		text = append(text, username...)
		text = append(text, password...)
		return sha256.Sum256(text) // which nobody sees, so that nobody can lengthen what it is of
	}
}

// Check finds the pair among those of the service, or returns [ErrCredentials], and counts either. It compares with all of
// them, whichever matches, so its time depends on the length of what was sent and on the service alone.
func (g *CredentialGate) Check(service callback.Service, username, password string) (Match, error) {
	found, err := g.find(service, username, password)
	if err != nil {
		g.metrics.countMismatch(service)
		return Match{}, err
	}
	found.count()
	return found.match, nil
}

func (g *CredentialGate) find(service callback.Service, username, password string) (*pair, error) {
	sent, pairs, found := g.digest(username, password), g.pairs[service], -1
	for i := range pairs {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sent[:], pairs[i].digest[:]), i, found)
	}
	if found < 0 {
		return nil, ErrCredentials
	}
	return &pairs[found], nil
}

// Covers reports whether any pair is valid on the service: if not, its listener would refuse everything.
func (g *CredentialGate) Covers(service callback.Service) bool { return len(g.pairs[service]) > 0 }

// Warnings are what the gate was built in spite of.
func (g *CredentialGate) Warnings() []Problem { return slices.Clone(g.warnings) }

func (g *CredentialGate) String() string { return fmt.Sprintf("credential gate of %d pairs", g.count) }

// ValidateCredentials lists everything that keeps a gate from being built. No message holds a password.
func ValidateCredentials(credentials []Credential, allowAnonymous bool) []Problem {
	if len(credentials) == 0 && !allowAnonymous {
		return []Problem{{"", "no credentials: list the pairs that were registered with the platform, " +
			"or write allow_anonymous: true to accept callbacks that carry none"}}
	}
	var problems []Problem
	for i, c := range credentials {
		report := func(field, format string, args ...any) {
			problems = append(problems, Problem{fmt.Sprintf("[%d]%s", i, field), fmt.Sprintf(format, args...)})
		}
		validateNames(c, report)
		validateSecrets(c, report)
		validateIdentity(credentials, i, report)
		validateAmbiguity(credentials, i, report)
	}
	return problems
}

type reporter func(field, format string, args ...any)

func validateNames(c Credential, report reporter) {
	if c.Label == "" {
		report(".label", "is empty: name the account or the sender that the pair stands for")
	}
	for _, f := range []struct{ field, text string }{{".label", c.Label}, {".id", c.ID}} {
		switch {
		case f.text == Anonymous:
			report(f.field, "%q is kept for callbacks without credentials: choose another", Anonymous)
		case len(f.text) > mostLabel:
			report(f.field, "is %d bytes long: at most %d", len(f.text), mostLabel)
		case !clean(f.text):
			report(f.field, "holds a control character or is not UTF-8")
		}
	}
	for i, s := range c.Services {
		if _, ok := callback.Lookup(string(s)); !ok {
			report(fmt.Sprintf(".services[%d]", i), "no service is named %q: the services are %s", s, listed(allServices()))
		}
	}
}

func validateSecrets(c Credential, report reporter) {
	password := c.Password.reveal()
	if c.Username == "" && password == "" {
		report("", "user name and password are both empty: to accept callbacks without credentials write allow_anonymous: true")
	}
	for _, f := range []struct{ field, text string }{{".username", c.Username}, {".password", password}} {
		if !clean(f.text) {
			report(f.field, "holds a control character, such as the line end of the file that it came from, or is not UTF-8: "+
				"the platform cannot send it")
		}
	}
}

func clean(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// validateIdentity wants label and id to name one pair. The first of two namesakes is not reported, the second is.
func validateIdentity(credentials []Credential, i int, report reporter) {
	c := credentials[i]
	if c.Label == "" {
		return
	}
	for j, other := range credentials {
		switch {
		case j == i || other.Label != c.Label:
		case c.ID == "":
			report(".id", "is empty, but [%d] is labelled %q too: give each pair of a label an id of its own, "+
				"such as the date of its registration", j, c.Label)
			return
		case j < i && other.ID == c.ID:
			report(".id", "%q of label %q is that of [%d] too: give each pair of a label an id of its own", c.ID, c.Label, j)
			return
		}
	}
}

// validateAmbiguity wants one callback to match one pair at most. The second of two twins is reported.
func validateAmbiguity(credentials []Credential, i int, report reporter) {
	c := credentials[i]
	for j, other := range credentials[:i] {
		if other.Username != c.Username || other.Password.reveal() != c.Password.reveal() {
			continue
		}
		if both := shared(c, other); len(both) > 0 {
			report("", "is the same user name and password as [%d], and both are valid on %s: a callback could be either's; "+
				"remove one of them, or part their services", j, listed(both))
			return
		}
	}
}

func shared(a, b Credential) []callback.Service {
	return slices.DeleteFunc(a.services(), func(s callback.Service) bool { return !slices.Contains(b.services(), s) })
}

func listed(services []callback.Service) string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func credentialWarnings(credentials []Credential, allowAnonymous bool) []Problem {
	var warnings []Problem
	if allowAnonymous && len(credentials) > 0 {
		warnings = append(warnings, Problem{"", "allow_anonymous accepts callbacks without credentials beside the pairs listed, " +
			"so the pairs keep nobody out"})
	}
	for i, c := range credentials {
		for _, f := range []struct{ field, text string }{{"username", c.Username}, {"password", c.Password.reveal()}} {
			warn := func(format string, args ...any) {
				warnings = append(warnings, Problem{fmt.Sprintf("[%d].%s", i, f.field), fmt.Sprintf(format, args...)})
			}
			switch n := utf8.RuneCountInString(f.text); {
			case n == 0:
				warn("is empty")
			case n > mostPlatform:
				warn("is %d characters long: the platform is said to take at most %d", n, mostPlatform)
			case strings.TrimSpace(f.text) != f.text:
				warn("begins or ends with white space, which counts")
			}
		}
	}
	return warnings
}
