package registration

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// What a [Fault] may be, for errors.Is.
var (
	ErrDeserialization = errors.New("the platform cannot read the request")
	ErrNoSession       = errors.New("the session is over")
	ErrAccountNotFound = errors.New("the platform does not know the account for this log-in")
	ErrHeld            = errors.New("the service has a listener already")
	ErrNotHeld         = errors.New("the service has no listener")
	ErrOnHold          = errors.New("the platform holds the request back")
)

// Fault is a SOAP fault of the platform. Services share codes, and each puts its own name before them: match by Class and Code.
type Fault struct {
	Operation string
	Service   string // as the platform names it; UnifiedWebService for what concerns all
	Class     string // INPUT_INVALID, REQUEST_FAILED, REQUEST_ONHOLD, REQUEST_CANCELLED; empty for a code without a class
	Code      string // what follows, such as AccountNotFound or SessionToken.Expired
	Text      string // the faultstring, bounded, where it cannot hold what nobody else should read; else empty
}

func (f *Fault) Error() string {
	s := "the platform answers " + f.code()
	if f.Text != "" {
		s += " (" + strconv.Quote(f.Text) + ")"
	}
	return s + ": " + f.rule().advice
}

// Unwrap is the sentinel that the fault stands for, or nil.
func (f *Fault) Unwrap() error { return f.rule().is }

// code is the whole code after the service's name.
func (f *Fault) code() string {
	switch {
	case f.Class == "":
		return f.Code
	case f.Code == "":
		return f.Class
	}
	return f.Class + "." + f.Code
}

// rule says what a code means and what to do about it.
type rule struct {
	code   string // the whole code after class and dot, or its beginning up to a dot
	is     error
	advice string
}

var rules = []rule{
	{"DeserializationFailed", ErrDeserialization, "a member of the request is missing, out of order or in another namespace than the platform wants: " +
		"this is no setting of yours; report it with the operation's name and the version of this program"},
	{"RequestUndefined", ErrDeserialization, "the platform finds no Input in the request: " +
		"this is no setting of yours; report it with the operation's name and the version of this program"},
	{"ActionNotSupported", ErrDeserialization, "the platform has no operation of this SOAPAction: check platform.soap_action, and platform.url"},
	{"SessionToken", ErrNoSession, "the platform takes no session token, not even that of a new log-in: try again in a minute; if it stays, " +
		"check that platform.url leads to one platform, and that nobody else logs out the same user"},
	{"Account.NotDefined", ErrAccountNotFound, "the request names no account: check the name under accounts"},
	{"AccountName", ErrAccountNotFound, "the platform does not take the account's name: write it as the portal shows it, such as 0212345678-00001"},
	{"AccountNotFound", ErrAccountNotFound, "no such account for this user: compare the name under accounts with the portal, " +
		"and whether uws_username may see the account"},
	{"NoAccounts", ErrAccountNotFound, "the user has no account: ask Verizon to give uws_username access to the account"},
	{"MultipleAccounts", ErrAccountNotFound, "the user has several accounts and the platform cannot tell which is meant: check the name under accounts"},
	{"Request.InvalidCharacter", nil, "a value of the request holds a character that the platform does not take: " +
		"look at the account's name, public_url, and the user name and password of the pair"},
	{"MaxRequestsExceeded", nil, "too many requests for now: try again in some minutes"},
	{"UnexpectedError", nil, "the platform failed: try again later; if it stays, ask Verizon's support"},
	{"CallbackFailure", nil, "the platform did not register the listener: look at the URL, which it may have tried to reach, and list what it holds"},
}

// defaults are for the codes that no rule knows, by class.
var defaults = map[string]rule{
	"INPUT_INVALID":     {advice: "the platform does not take a value of the request: compare account, service and URL with the portal"},
	"REQUEST_FAILED":    {advice: "the platform understood the request and did not carry it out: list what it holds, and try again later"},
	"REQUEST_ONHOLD":    {is: ErrOnHold, advice: "the platform holds the request back: look at the account's state in the portal before you try again"},
	"REQUEST_CANCELLED": {advice: "the platform cancelled the request: list what it holds, and try again"},
	"":                  {advice: "this is no code of the platform's list: check platform.url, and try again later"},
}

// No code is published for a listener in the way, or for none to unregister. These are the words that such a code would hold.
var (
	wordsOfHeld    = regexp.MustCompile(`(?i)already|exist|held|duplicate|inuse|conflict`)
	wordsOfNotHeld = regexp.MustCompile(`(?i)not\.?(found|registered|held|exist)|notexist|noregistration|nocallback`)
)

func (f *Fault) rule() rule {
	for _, r := range rules {
		if f.Code == r.code || strings.HasPrefix(f.Code, r.code+".") {
			return r
		}
	}
	switch {
	case f.Operation == "RegisterCallback" && wordsOfHeld.MatchString(f.Code) && !wordsOfNotHeld.MatchString(f.Code):
		return rule{is: ErrHeld, advice: "list what the platform holds: the service's listener has to be unregistered before another can be registered"}
	case f.Operation != "LogIn" && wordsOfNotHeld.MatchString(f.Code):
		return rule{is: ErrNotHeld, advice: "list what the platform holds: no listener is registered for the service"}
	}
	if r, ok := defaults[f.Class]; ok {
		return r
	}
	return defaults[""]
}

// platformCode is a code of the platform, with what stands before it.
var platformCode = regexp.MustCompile(`(?:([A-Za-z0-9_]{1,64})\.)?` +
	`(INPUT_INVALID|REQUEST_FAILED|REQUEST_ONHOLD|REQUEST_CANCELLED)` + `((?:\.[A-Za-z0-9_]{1,64}){0,8})`)

// fault reads a payload that is a SOAP fault, or returns nil. The texts in secrets do not appear in what it returns.
func (n *node) fault(operation string, secrets []string) *Fault {
	if n.name != "Fault" {
		return nil
	}
	code, text := n.childText("faultcode"), n.childText("faultstring")
	if c := n.child("Code"); c != nil { // SOAP 1.2
		code = c.childText("Value")
		if sub := c.child("Subcode"); sub != nil {
			code = sub.childText("Value")
		}
		if reason := n.child("Reason"); reason != nil {
			text = reason.childText("Text")
		}
	}
	f := &Fault{Operation: operation}
	f.setCode(append([]string{code}, n.texts(nil)...))
	if f.quotable() {
		f.Text = bounded(mask(text, secrets))
	}
	return f
}

// setCode takes the first code of the platform in the texts, or else the first text for what it is.
func (f *Fault) setCode(texts []string) {
	for _, text := range texts {
		if m := platformCode.FindStringSubmatch(text); m != nil {
			f.Service, f.Class, f.Code = m[1], m[2], strings.TrimPrefix(m[3], ".")
			return
		}
	}
	code := texts[0][strings.LastIndexByte(texts[0], ':')+1:] // without a prefix for its namespace
	if service, rest, found := strings.Cut(code, "."); found {
		f.Service, code = bounded(service), rest
	}
	if f.Code = bounded(code); f.Code == "" {
		f.Code = "a fault without a code"
	}
}

// texts are those of n and all below it.
func (n *node) texts(list []string) []string {
	if n.text != "" {
		list = append(list, n.text)
	}
	for _, child := range n.children {
		list = child.texts(list)
	}
	return list
}

// quotable reports whether the faultstring may be shown. It repeats what was sent: for a log-in, or a request that could not be read, that
// may be a password.
func (f *Fault) quotable() bool {
	return f.Operation != "LogIn" && f.rule().is != ErrDeserialization && !strings.HasPrefix(f.Code, "Request.")
}

func mask(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// bounded is a text of the platform's as it goes into an error or a file.
func bounded(text string) string {
	const most = 200
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if b.Len() >= most {
			return b.String() + "..."
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
