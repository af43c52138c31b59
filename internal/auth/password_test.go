package auth_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"callbackd/internal/auth"
)

// TestNoPasswordShows prints, encodes and logs whatever holds a password, in every way.
func TestNoPasswordShows(t *testing.T) {
	t.Parallel()
	const secret = "Hush-hush-42"
	held := credential("fleet", "", "user", secret)
	gate, err := auth.NewCredentialGate([]auth.Credential{held}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := credential("long", "", "user", strings.Repeat(secret, 5))
	longGate, err := auth.NewCredentialGate([]auth.Credential{long}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	type unexported struct {
		c credentialAlias
		p *auth.Credential
	}
	broken := credential("fleet", "", "user", secret+"\n")
	_, problems := auth.NewCredentialGate([]auth.Credential{broken, broken, held, held}, false, nil)
	_, refusal := gate.Check("DeviceUsage", "user", secret+"x")
	for name, v := range map[string]any{
		"password":           held.Password,
		"password pointer":   &held.Password,
		"credential":         held,
		"credential pointer": &held,
		"slice":              []auth.Credential{held},
		"map":                map[string]auth.Credential{"a": held},
		"exported field":     struct{ Credential auth.Credential }{held},
		"unexported field":   unexported{credentialAlias(held), &held},
		"gate":               gate,
		"gate itself":        *gate,
		"problems":           problems,
		"warnings":           longGate.Warnings(),
		"refusal":            refusal,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, shown := range renderings(v) {
				for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
					if strings.Contains(strings.ToLower(shown), strings.ToLower(form)) {
						t.Errorf("%s shows it: %s", way, shown)
					}
				}
			}
		})
	}
}

// credentialAlias has the fields of a Credential and none of its methods.
type credentialAlias auth.Credential

func renderings(v any) map[string]string {
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%p", "%t", "%w", "%!"} {
		shown[verb] = fmt.Sprintf(verb, v)
	}
	asJSON, _ := json.Marshal(v) // what cannot be encoded shows nothing
	asXML, _ := xml.Marshal(v)
	shown["json"], shown["xml"] = string(asJSON), string(asXML)
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
	shown["slog"] = out.String()

	var logged zapcore.WriteSyncer = zapcore.AddSync(&out)
	for _, encoder := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(encoder, logged, zap.DebugLevel))
		log.Info("m", zap.Any("any", v), zap.Reflect("reflect", v))
		log.Sugar().Infow(fmt.Sprint(v), "v", v)
		if o, ok := v.(zapcore.ObjectMarshaler); ok {
			log.Info("m", zap.Object("object", o), zap.Inline(o))
		}
	}
	shown["zap"] = out.String()
	return shown
}

// TestCredentialShowsTheRest: redaction leaves what an operator needs.
func TestCredentialShowsTheRest(t *testing.T) {
	t.Parallel()
	held := credential("fleet", "", "user", "Hush", "DeviceUsage")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if shown := fmt.Sprintf(verb, held.Password); shown != "[redacted]" {
			t.Errorf("%s: %s", verb, shown)
		}
	}
	for way, shown := range renderings(held) {
		if (way == "%+v" || way == "json" || way == "zap") &&
			(!strings.Contains(shown, "fleet") || !strings.Contains(shown, "[redacted]")) {
			t.Errorf("%s: %s", way, shown)
		}
	}
}
