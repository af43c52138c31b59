package registration_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"callbackd/internal/thingspace/registration"
)

// faulted registers at a server that answers this.
func faulted(t *testing.T, answer http.HandlerFunc) (*registration.Fault, error) {
	t.Helper()
	s := newServer(t)
	s.answer("RegisterCallback", answer)
	err := newClient(t, options(t, s)).Register(t.Context(), held("DeviceUsage", "https://a.example/"), registration.Login{Username: "u", Password: "p4ssw0rd"})
	var fault *registration.Fault
	if !errors.As(err, &fault) {
		t.Fatalf("got %v, want a fault", err)
	}
	return fault, err
}

// TestFaultsAreToldByTheirCode: each code that these calls may bring has what it stands for and what to do.
func TestFaultsAreToldByTheirCode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code, class, rest string
		is                error
		advice            string
	}{
		{"UnifiedWebService.REQUEST_FAILED.AccountNotFound", "REQUEST_FAILED", "AccountNotFound", registration.ErrAccountNotFound, "no such account for this user"},
		{"CallbackRegistrationService.REQUEST_FAILED.AccountName", "REQUEST_FAILED", "AccountName", registration.ErrAccountNotFound, "as the portal shows it"},
		{"UnifiedWebService.INPUT_INVALID.Account.NotDefined", "INPUT_INVALID", "Account.NotDefined", registration.ErrAccountNotFound, "names no account"},
		{"UnifiedWebService.REQUEST_FAILED.NoAccounts", "REQUEST_FAILED", "NoAccounts", registration.ErrAccountNotFound, "ask Verizon"},
		{"UnifiedWebService.REQUEST_FAILED.MultipleAccounts", "REQUEST_FAILED", "MultipleAccounts", registration.ErrAccountNotFound, "several accounts"},
		{"UnifiedWebService.REQUEST_FAILED.SessionToken.Expired", "REQUEST_FAILED", "SessionToken.Expired", registration.ErrNoSession, "not even that of a new log-in"},
		{"UnifiedWebService.INPUT_INVALID.SessionToken.Invalid", "INPUT_INVALID", "SessionToken.Invalid", registration.ErrNoSession, "not even"},
		{"UnifiedWebService.REQUEST_FAILED.SessionToken.Format", "REQUEST_FAILED", "SessionToken.Format", registration.ErrNoSession, "not even"},
		{"UnifiedWebService.INPUT_INVALID.Request.InvalidCharacter", "INPUT_INVALID", "Request.InvalidCharacter", nil, "holds a character"},
		{"UnifiedWebService.INPUT_INVALID.RequestUndefined", "INPUT_INVALID", "RequestUndefined", registration.ErrDeserialization, "finds no Input"},
		{"UnifiedWebService.INPUT_INVALID.MaxRequestsExceeded", "INPUT_INVALID", "MaxRequestsExceeded", nil, "too many requests"},
		{"UnifiedWebService.REQUEST_FAILED.UnexpectedError", "REQUEST_FAILED", "UnexpectedError", nil, "the platform failed"},
		{"UnifiedWebService.DeserializationFailed", "", "DeserializationFailed", registration.ErrDeserialization, "out of order"},
		{"a:DeserializationFailed", "", "DeserializationFailed", registration.ErrDeserialization, "out of order"},
		{"DeserializationFailed", "", "DeserializationFailed", registration.ErrDeserialization, "out of order"},
		{"X.REQUEST_FAILED.CallbackAlreadyRegistered", "REQUEST_FAILED", "CallbackAlreadyRegistered", registration.ErrHeld, "has to be unregistered"},
		{"X.INPUT_INVALID.Callback.Exists", "INPUT_INVALID", "Callback.Exists", registration.ErrHeld, "has to be unregistered"},
		{"X.REQUEST_FAILED.ServiceName.NotFound", "REQUEST_FAILED", "ServiceName.NotFound", registration.ErrNotHeld, "no listener is registered"},
		{"X.INPUT_INVALID.Url", "INPUT_INVALID", "Url", nil, "compare account, service and URL with the portal"},
		{"X.REQUEST_FAILED.Whatever", "REQUEST_FAILED", "Whatever", nil, "did not carry it out"},
		{"X.REQUEST_ONHOLD", "REQUEST_ONHOLD", "", registration.ErrOnHold, "holds the request back"},
		{"X.REQUEST_ONHOLD.Billing", "REQUEST_ONHOLD", "Billing", registration.ErrOnHold, "holds the request back"},
		{"X.REQUEST_CANCELLED", "REQUEST_CANCELLED", "", nil, "cancelled the request"},
		{"s:Client", "", "Client", nil, "no code of the platform's list"},
		{"", "", "a fault without a code", nil, "no code of the platform's list"},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			got, err := faulted(t, fault(http.StatusInternalServerError, test.code, "Some text."))
			if got.Class != test.class || got.Code != test.rest || !strings.Contains(err.Error(), test.advice) {
				t.Errorf("got %+v: %v", *got, err)
			}
			for _, sentinel := range []error{registration.ErrDeserialization, registration.ErrNoSession, registration.ErrAccountNotFound,
				registration.ErrHeld, registration.ErrNotHeld, registration.ErrOnHold, registration.ErrAnswer, registration.ErrLogInRefused} {
				if errors.Is(err, sentinel) != (sentinel == test.is) {
					t.Errorf("errors.Is(%v) is %v", sentinel, errors.Is(err, sentinel))
				}
			}
		})
	}
}

// TestFaultsAreFoundHoweverTheyCome: in any version, with any status, and with the code in another place.
func TestFaultsAreFoundHoweverTheyCome(t *testing.T) {
	t.Parallel()
	const code = "UnifiedWebService.REQUEST_FAILED.AccountNotFound"
	detail := envelope(`<s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring xml:lang="en">No.</faultstring><detail><e:Error xmlns:e="urn:e"><e:Code>` + code + `</e:Code></e:Error></detail></s:Fault></s:Body>`)
	soap12 := `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>` + code +
		`</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en">No.</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`
	for rule, answer := range map[string]http.HandlerFunc{
		"status 200":             fault(http.StatusOK, code, "No."),
		"status 500":             fault(http.StatusInternalServerError, code, "No."),
		"status 400":             fault(http.StatusBadRequest, code, "No."),
		"a code with a prefix":   fault(http.StatusOK, "s:"+code, "No."),
		"white space":            fault(http.StatusOK, "\n  "+code+"\n", " No.\n"),
		"the code in the text":   fault(http.StatusOK, "s:Server", code),
		"the code in the detail": raw(http.StatusInternalServerError, xmlType, detail),
		"SOAP 1.2":               raw(http.StatusInternalServerError, "application/soap+xml; charset=utf-8", soap12),
		"without a namespace":    raw(http.StatusOK, xmlType, envelope(`<s:Body><Fault><faultcode>`+code+`</faultcode><faultstring>No.</faultstring></Fault></s:Body>`)),
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got, err := faulted(t, answer)
			if got.Service != "UnifiedWebService" || got.Class != "REQUEST_FAILED" || got.Code != "AccountNotFound" || got.Operation != "RegisterCallback" {
				t.Errorf("got %+v", *got)
			}
			if !strings.HasPrefix(err.Error(), "RegisterCallback at http://127.0.0.1:") || !strings.Contains(err.Error(), "REQUEST_FAILED.AccountNotFound") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestTheTextOfAFaultIsBoundedAndKeepsSecrets: faultstrings embed what was sent.
func TestTheTextOfAFaultIsBoundedAndKeepsSecrets(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct{ code, text, want string }{
		"an ordinary text":                {"X.REQUEST_FAILED.AccountNotFound", "Account 0212345678-00001 was not found.", "Account 0212345678-00001 was not found."},
		"the password of the callbacks":   {"X.INPUT_INVALID.Password", "p4ssw0rd is too short", "[redacted] is too short"},
		"the password of the log-in":      {"X.REQUEST_FAILED.UnexpectedError", "uws/Tr0ub4dor&amp;3", "uws/[redacted]"},
		"the token":                       {"X.REQUEST_FAILED.UnexpectedError", "session token-1 failed", "session [redacted] failed"},
		"lines and control characters":    {"X.REQUEST_FAILED.UnexpectedError", "a\nb\tc\u0085d\u202ee", "a b c d e"},
		"a long text":                     {"X.REQUEST_FAILED.UnexpectedError", strings.Repeat("ab ", 1000), strings.Repeat("ab ", 67)[:200] + "..."},
		"a request that cannot be read":   {"a:DeserializationFailed", "unexpected p4", ""},
		"a character that is not allowed": {"X.INPUT_INVALID.Request.InvalidCharacter", "p4ss", ""},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got, err := faulted(t, fault(http.StatusInternalServerError, test.code, test.text))
			if got.Text != test.want {
				t.Errorf("the text is %q, want %q", got.Text, test.want)
			}
			if said := err.Error(); len(said) > 700 || strings.ContainsAny(said, "\n\t") || strings.Contains(said, "p4ss") {
				t.Errorf("the error is %q", said)
			}
		})
	}
}

// TestACodeFromOutsideIsBounded: it goes into errors and, of a log-in, into a file.
func TestACodeFromOutsideIsBounded(t *testing.T) {
	t.Parallel()
	for _, code := range []string{strings.Repeat("x", 5000), "X.REQUEST_FAILED." + strings.Repeat("y", 5000), "X.REQUEST_FAILED" + strings.Repeat(".y", 5000),
		strings.Repeat("s", 5000) + ".Code", "a\nb\u001b"[:3] + "[31m"} {
		got, _ := faulted(t, fault(http.StatusOK, code, ""))
		for _, s := range []string{got.Service, got.Class, got.Code} {
			if len(s) > 600 || strings.ContainsAny(s, "\n\x1b") {
				t.Errorf("%.20s...: got %q", code, s)
			}
		}
	}
}
