package callback_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"callbackd/internal/callback"
)

var update = flag.Bool("update", false, "write the JSON form of a callback to testdata; read the difference before you commit it")

// fill sets every field of a value: texts to the name of their field, lists to one member. Elements nest once.
func fill(v reflect.Value, name string) {
	switch v.Interface().(type) {
	case callback.Time:
		v.Set(reflect.ValueOf(callback.Time{Text: "3/15/2017 12:00:00 AM"}))
		return
	case callback.Number:
		v.SetString("1048576")
		return
	case []callback.Element:
		v.Set(reflect.ValueOf([]callback.Element{{
			Name: "New", Namespace: "urn:new", Attributes: map[string]string{"{urn:a}b": "1"}, Nil: true, Text: "7", Elements: []callback.Element{{Name: "Newer"}},
		}}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(name)
	case reflect.Int:
		v.SetInt(int64(len(name)))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), v.Type().Field(i).Name)
		}
	default:
		panic(fmt.Sprintf("no value for %s", v.Type()))
	}
}

func full() *callback.Callback {
	c := new(callback.Callback)
	fill(reflect.ValueOf(c).Elem(), "")
	return c
}

// The JSON form is what handlers outside of this program read: its names and shapes change only on purpose.
func TestCallbackJSON(t *testing.T) {
	t.Parallel()
	const golden = "testdata/callback.json"
	got, err := json.MarshalIndent(full(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("a full callback is written as\n%s\nwant\n%s", got, want)
	}
	var back callback.Callback
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, full()) {
		t.Errorf("what is written reads as %+v", back)
	}
}

func TestEmptyCallbackJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(callback.Callback{Kind: callback.KindStatus, Status: &callback.Status{}, Usage: &callback.Usage{}})
	if want := `{"kind":"Status","usage":{},"status":{"text":""}}`; err != nil || string(got) != want {
		t.Errorf("written as %s, %v; want %s", got, err, want)
	}
}

// Every kind that is declared is listed once, under the name of the payload's element.
func TestKindsAreClosed(t *testing.T) {
	t.Parallel()
	source, err := parser.ParseFile(token.NewFileSet(), "callback.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []callback.Kind
	ast.Inspect(source, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Kind") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || spec.Names[0].Name != "Kind"+value {
			t.Errorf("%s is %q", spec.Names[0].Name, value)
		}
		declared = append(declared, callback.Kind(value))
		return true
	})
	if len(declared) == 0 || !slices.Equal(declared, callback.Kinds()) {
		t.Errorf("declared are %v, listed %v", declared, callback.Kinds())
	}
	if slices.Sort(declared); len(slices.Compact(declared)) != len(callback.Kinds()) {
		t.Error("a kind stands twice")
	}
}

// Each kind but Unknown is a member of Callback, and each such member is found by its type.
func TestPayloadOf(t *testing.T) {
	t.Parallel()
	checkPayload[callback.CarrierServiceResponse](t, callback.KindCarrierService)
	checkPayload[callback.ExternalProvisioningChange](t, callback.KindExternalProvisioningChange)
	checkPayload[callback.PromotionChange](t, callback.KindPromoChange)
	checkPayload[callback.Usage](t, callback.KindUsage)
	checkPayload[callback.SMSDelivery](t, callback.KindSMSDelivery)
	checkPayload[callback.PRLInformation](t, callback.KindPRLInformation)
	checkPayload[callback.SuspendStatus](t, callback.KindDeviceSuspendStatus)
	checkPayload[callback.DeviceAvailability](t, callback.KindCheckDeviceAvailability)
	checkPayload[callback.SmsMessage](t, callback.KindSmsMessage)
	checkPayload[callback.Fault](t, callback.KindFault)
	checkPayload[callback.Comment](t, callback.KindComment)
	checkPayload[callback.Summary](t, callback.KindSummary)
	checkPayload[callback.Status](t, callback.KindStatus)

	members := 0
	for _, field := range reflect.VisibleFields(reflect.TypeFor[callback.Callback]()) {
		if field.Type.Kind() == reflect.Pointer {
			members++
		}
	}
	if members != len(callback.Kinds())-1 {
		t.Errorf("Callback has %d payloads, and there are %d kinds", members, len(callback.Kinds()))
	}
}

func checkPayload[T callback.Payload](t *testing.T, kind callback.Kind) {
	t.Helper()
	c := full()
	member := reflect.ValueOf(c).Elem().FieldByName(string(kind))
	if !member.IsValid() {
		t.Errorf("Callback has no member %s", kind)
		return
	}
	if got := callback.PayloadOf[T](c); got == nil || any(got) != member.Interface() {
		t.Errorf("%s: got %+v", kind, got)
	}
	member.SetZero()
	if got := callback.PayloadOf[T](c); got != nil {
		t.Errorf("%s: got %+v of a callback without it", kind, got)
	}
}

func TestRelatedDevices(t *testing.T) {
	t.Parallel()
	// Every list of devices within a payload is related; those of the callback itself are not.
	var within int
	var count func(reflect.Type)
	count = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			if typ == reflect.TypeFor[[]callback.Device]() {
				within++
			} else if typ != reflect.TypeFor[[]callback.Element]() {
				count(typ.Elem())
			}
		case reflect.Struct:
			for _, field := range reflect.VisibleFields(typ) {
				count(field.Type)
			}
		}
	}
	count(reflect.TypeFor[callback.Callback]())
	if got := len(full().RelatedDevices()); got != within-1 {
		t.Errorf("%d of %d lists of devices are related", got, within-1)
	}
	if got := (&callback.Callback{Devices: []callback.Device{{Kind: "mdn", Identifier: "1"}}}).RelatedDevices(); got != nil {
		t.Errorf("related to nothing: %v", got)
	}
	empty := &callback.Callback{
		CarrierService:             &callback.CarrierServiceResponse{ChangeDeviceState: &callback.StateChanged{}},
		ExternalProvisioningChange: &callback.ExternalProvisioningChange{}, CheckDeviceAvailability: &callback.DeviceAvailability{},
	}
	if got := empty.RelatedDevices(); got != nil {
		t.Errorf("related to nothing: %v", got)
	}
}

func TestDeviceIs(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Mdn", "MDN", "mdn"} {
		if !(callback.Device{Kind: kind}).Is("mdn") {
			t.Errorf("%s is no mdn", kind)
		}
	}
	if (callback.Device{Kind: "msisdn"}).Is("mdn") {
		t.Error("an msisdn is no mdn")
	}
}
