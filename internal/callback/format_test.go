package callback_test

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"callbackd/internal/callback"
)

// Whatever part of a callback is printed, and however, it says nothing of what the platform sent.
func TestNothingThatIsPrintedQuotesACallback(t *testing.T) {
	t.Parallel()
	const secret = "Quellenhof"
	var fillIn func(v reflect.Value)
	seen := map[reflect.Type]reflect.Value{}
	fillIn = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if v.Type() != reflect.TypeFor[callback.Kind]() {
				v.SetString(secret)
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fillIn(v.Elem())
		case reflect.Slice:
			if v.Type() == reflect.TypeFor[[]callback.Element]() {
				v.Set(reflect.ValueOf([]callback.Element{{Name: secret, Text: secret, Attributes: map[string]string{secret: secret}}}))
				seen[reflect.TypeFor[callback.Element]()] = v.Index(0)
				return
			}
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fillIn(v.Index(0))
		case reflect.Struct:
			for i := range v.NumField() {
				fillIn(v.Field(i))
			}
			if v.Type() != reflect.TypeFor[callback.Time]() { // a time is nobody's
				seen[v.Type()] = v
			}
		}
	}
	c := new(callback.Callback)
	fillIn(reflect.ValueOf(c).Elem())
	if len(seen) < 25 {
		t.Fatalf("found %d types", len(seen))
	}
	for typ, v := range seen {
		for _, form := range []any{v.Interface(), v.Addr().Interface(), struct{ V any }{v.Interface()}, []any{v.Interface()}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				if text := fmt.Sprintf(verb, form); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
					t.Errorf("%s prints %T as %s", verb, form, text)
				}
			}
		}
		if text := fmt.Sprintf("%+v", v.Interface()); !strings.Contains(text, typ.Name()) {
			t.Errorf("%s is printed as %q, which does not say what it is", typ, text)
		}
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "callback", c, "device", c.Devices)
	if err := errors.Join(fmt.Errorf("deal with %+v", c)); strings.Contains(log.String()+err.Error(), secret) {
		t.Errorf("logged as %s, wrapped as %v", log.String(), err)
	}
}
