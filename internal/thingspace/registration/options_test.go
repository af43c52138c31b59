package registration_test

import (
	"strings"
	"testing"

	"callbackd/internal/thingspace/registration"
)

func TestOptionsThatMakeNoClient(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for rule, test := range map[string]struct {
		change func(o *registration.Options)
		want   string
	}{
		"no state":                     {func(o *registration.Options) { o.State = nil }, "needs a State"},
		"no user":                      {func(o *registration.Options) { o.Login.Username = "" }, "uws_username"},
		"no password":                  {func(o *registration.Options) { o.Login.Password = "" }, "uws_password_file or uws_password_env"},
		"plain http to elsewhere":      {func(o *registration.Options) { o.URL = "http://uws.apps.nphase.com/api/v2" }, "platform.url: is plain http"},
		"plain http to a lookalike":    {func(o *registration.Options) { o.URL = "http://127.0.0.1.example.com/" }, "is plain http"},
		"plain http to all addresses":  {func(o *registration.Options) { o.URL = "http://0.0.0.0:28300/" }, "is plain http"},
		"a user in the URL":            {func(o *registration.Options) { o.URL = "https://u:S3cret@example.com/" }, "belongs into accounts"},
		"a query":                      {func(o *registration.Options) { o.URL = "https://example.com/?wsdl" }, "query or a fragment"},
		"an empty query":               {func(o *registration.Options) { o.URL = "https://example.com/?" }, "query or a fragment"},
		"a fragment":                   {func(o *registration.Options) { o.URL = "https://example.com/#S3cret" }, "query or a fragment"},
		"no scheme":                    {func(o *registration.Options) { o.URL = "example.com/api" }, "https://host/path"},
		"another scheme":               {func(o *registration.Options) { o.URL = "ftp://example.com/" }, "https://host/path"},
		"no host":                      {func(o *registration.Options) { o.URL = "https:///api" }, "https://host/path"},
		"no URL":                       {func(o *registration.Options) { o.URL = "https://u:S3cret@exa mple/" }, "is not a URL"},
		"an action without operation":  {func(o *registration.Options) { o.SOAPAction = "urn:{service}" }, "platform.soap_action: lacks {operation}"},
		"an action with other braces":  {func(o *registration.Options) { o.SOAPAction = "urn:{Service}/{operation}" }, "braces that are neither"},
		"an action with a quote":       {func(o *registration.Options) { o.SOAPAction = `"urn:{operation}"` }, "holds a quote"},
		"an action of several lines":   {func(o *registration.Options) { o.SOAPAction = "urn:{operation}\r\nX: y" }, "no HTTP header carries"},
		"an action with other letters": {func(o *registration.Options) { o.SOAPAction = "urn:ü{operation}" }, "no HTTP header carries"},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			o := options(t, s)
			test.change(&o)
			c, err := registration.NewClient(o)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "S3cret") || c != nil {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

func TestOptionsThatMakeOne(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for rule, change := range map[string]func(o *registration.Options){
		"the platform itself":      func(o *registration.Options) { o.URL = "" },
		"https":                    func(o *registration.Options) { o.URL = "https://example.com:8443/api/v2/" },
		"loopback":                 func(o *registration.Options) { o.URL = "http://127.0.0.1:28300/api/v2" },
		"loopback of IPv6":         func(o *registration.Options) { o.URL = "http://[::1]:28300/api/v2" },
		"localhost":                func(o *registration.Options) { o.URL = "http://localhost:28300/api/v2" },
		"an action of operations":  func(o *registration.Options) { o.SOAPAction = "{operation}" },
		"an action without a name": func(o *registration.Options) { o.SOAPAction = "" },
	} {
		o := options(t, s)
		change(&o)
		if _, err := registration.NewClient(o); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// TestTheAddressAndTheActionAreConfigurable: they were never published for these services.
func TestTheAddressAndTheActionAreConfigurable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, action, wantPath, wantAction string }{
		{"", "", "/EnhancedConnectivityService.svc", `""`},
		{"/", "{operation}", "/EnhancedConnectivityService.svc", `"StartSmsCallback"`},
		{"/a/b//", "urn:{service}#{operation}", "/a/b/EnhancedConnectivityService.svc", `"urn:EnhancedConnectivityService#StartSmsCallback"`},
	} {
		s := newServer(t)
		s.answer("StartSmsCallback", output("StartSmsCallback", ``))
		o := options(t, s)
		o.URL, o.SOAPAction = s.URL+test.url, test.action
		if err := newClient(t, o).StartSMS(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		c := s.last()
		if got := c.header.Values("SOAPAction"); c.path != test.wantPath || len(got) != 1 || got[0] != test.wantAction {
			t.Errorf("%+v: path %s, action %q", test, c.path, got)
		}
	}
}
