package thingspace_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

// respell writes a blank into every tag of a message, before its end. Nothing is said differently by that, and no short cut takes such a tag.
func respell(t testing.TB, stored []byte) []byte {
	t.Helper()
	var s soap.Scanner
	var respelt []byte
	at := 0
	s.Reset(string(stored), soap.Limits{})
	for {
		token, err := s.Next()
		if err != nil {
			t.Fatalf("the stored bytes do not scan: %v", err)
		}
		from, to := s.Span()
		switch {
		case token == soap.EOF:
			return append(respelt, stored[at:]...)
		case token == soap.Text || from == to:
			continue
		}
		end := to - len(">")
		if stored[end-1] == '/' {
			end--
		}
		respelt = append(append(respelt, stored[at:end]...), ' ')
		at = end
	}
}

// checkSpelling holds a message, of which the decoder reads what is plain by short cuts, against the same one without anything plain in it.
func checkSpelling(t testing.TB, stored []byte) {
	t.Helper()
	read := func(document []byte) *thingspace.Message {
		m, err := thingspace.Read(bytes.Clone(document), thingspace.ReadOptions{Charset: "utf-8", KeepExtra: true, Key: true, Violations: 1000})
		if err != nil {
			t.Fatalf("the stored bytes do not read: %v\n%s", err, document)
		}
		for i := range m.Violations {
			m.Violations[i].Line, m.Violations[i].Column = 0, 0
		}
		return m
	}
	long := respell(t, stored)
	got, want := read(stored), read(long)
	if !reflect.DeepEqual(got.Callback, want.Callback) || got.Username != want.Username || got.Password != want.Password ||
		!reflect.DeepEqual(got.Extensions, want.Extensions) || got.ExtensionCount != want.ExtensionCount {
		t.Errorf("by short cuts it reads otherwise:\n%+v\n%+v\n%s", got, want, stored)
	}
	if !reflect.DeepEqual(got.Violations, want.Violations) {
		t.Errorf("by short cuts it violates otherwise: %v; without: %v\n%s", got.Violations, want.Violations, stored)
	}
	if got.Key(callback.DeviceUsage, "main", false) != want.Key(callback.DeviceUsage, "main", false) {
		t.Errorf("by short cuts its key is another\n%s", stored)
	}
}

// TestShortCutsOfTheDecoder reads members that are plainly written where they may stand, and where they may not.
func TestShortCutsOfTheDecoder(t *testing.T) {
	t.Parallel()
	const provisioning = "<ExternalProvisioningChange>%</ExternalProvisioningChange>"
	within := func(members string) string {
		return strings.Replace(provisioning, "%", members, 1)
	}
	for _, data := range []string{
		within("<Source> of \n the carrier </Source>\n<Change></Change>"),
		within("<Change>1</Change><Source>after it</Source>"),
		within("<Source>1</Source><Source>2</Source>"),
		within("<Source></Source><Source>2</Source>"),
		within(`<Source xsi:nil="true"/><Source xsi:nil="true"/>text<Change>1</Change>`),
		within("<Source>1</Source><New>2</New><Username>3</Username><Password>4</Password><CallbackCount>5</CallbackCount>"),
		within(`<New xsi:nil="true"/><DeviceInfo><DeviceIdentifiers><DeviceIdentifier xsi:nil="true"/></DeviceIdentifiers></DeviceInfo>`),
		within(`<Source xmlns="urn:other">1</Source>`) + `<Usage xmlns="urn:other"><BytesUsed>1</BytesUsed></Usage>`,
		`<v:Usage xmlns="urn:other" xmlns:v="` + thingspace.Namespace + `"><BytesUsed>1</BytesUsed></v:Usage>`,
		"<Usage>\n<BytesUsed>1</BytesUsed> <New><BytesUsed>2</BytesUsed><Password>3</Password></New> <BytesUsed>4</BytesUsed>text </Usage>",
		"<Usage><Password><BytesUsed>1</BytesUsed></Password></Usage>",
		`<Usage xsi:nil="true"><BytesUsed>1</BytesUsed><SmsUsed xsi:nil="true"/></Usage>`,
		`<Status xsi:nil="true"/><Usage xsi:nil="true"/><Status xsi:nil="true"/>`,
		`<CarrierService><ChangeDeviceCustomFields xsi:nil="true"/><ChangeDeviceCustomFields>1</ChangeDeviceCustomFields>` +
			`<ChangeDeviceCustomFields xsi:nil="true"/></CarrierService>`,
		"<CallbackCount>x</CallbackCount><CallbackCount>2</CallbackCount>",
		"<CheckDeviceAvailability><Status>1</Status><Status>2</Status> <Device><Kind>MDN</Kind><Identifier> 1 </Identifier></Device></CheckDeviceAvailability>",
	} {
		checkSpelling(t, []byte(request("<Username>a</Username><Password>b</Password><RequestId>1</RequestId><Device><Kind>MDN</Kind><Identifier> 1</Identifier><New>2</New></Device>"+
			`<Device><Kind xsi:nil="true"/><Identifier/></Device><Data>`+data+"</Data>")))
		checkSpelling(t, []byte(request("<Device><Kind>eSn</Kind></Device><Data>\n "+data+" </Data><Username> a </Username>")))
	}
}
