package registration_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"callbackd/internal/thingspace/registration"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestNoPrintShowsAPassword: of a log-in, of what holds one, and of a client with an open session.
func TestNoPrintShowsAPassword(t *testing.T) {
	t.Parallel()
	const password = "S3cret"
	s := newServer(t)
	s.answer("LogIn", output("LogIn", `<a:SessionToken>S3cret-token</a:SessionToken>`))
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	o := options(t, s)
	o.Login = registration.Login{Username: "uws", Password: password}
	c := newClient(t, o)
	if err := c.StartSMS(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	logged := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&said), zap.DebugLevel))
	slogged := slog.New(slog.NewTextHandler(&said, nil))
	holder := struct {
		Name  string
		Login registration.Login
	}{"holder", o.Login}
	for _, v := range []any{o.Login, &o.Login, o, &o, holder, &holder, []registration.Login{o.Login}, map[string]registration.Login{"a": o.Login}, c, *c} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			_, _ = fmt.Fprintf(&said, verb+"\n", v)
		}
		logged.Info("", zap.Any("value", v), zap.Reflect("value", v))
		slogged.Info("", "value", v)
	}
	for _, v := range []any{o.Login, &o.Login, holder, c} {
		text, err := json.Marshal(v)
		said.Write(text)
		if err != nil {
			t.Error(err)
		}
	}
	text, err := xml.Marshal(o.Login)
	said.Write(text)
	if err != nil {
		t.Error(err)
	}
	logged.Info("", zap.Object("login", o.Login), zap.Inline(o.Login))
	if text := said.String(); strings.Contains(text, password) || strings.Contains(text, fmt.Sprintf("%x", password)) || strings.Contains(text, fmt.Sprintf("%X", password)) {
		t.Errorf("the password is in\n%s", text)
	}
	if !strings.Contains(said.String(), `log-in of "uws"`) {
		t.Error("the user name, which is no secret, is not shown")
	}
}
