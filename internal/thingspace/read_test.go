package thingspace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"

	"pgregory.net/rapid"
)

// request is a CallbackRequest around some content.
func request(content string) string {
	return `<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Body xmlns:xsi="` + soap.XSI + `"><CallbackRequest xmlns="` + thingspace.Namespace + `">` +
		content + `</CallbackRequest></s:Body></s:Envelope>`
}

func withData(content string) string {
	return request(`<Username>acme</Username><Password>` + secret + `</Password><Data>` + content + `</Data>`)
}

func mustRead(t testing.TB, document string) *thingspace.Message {
	t.Helper()
	m, err := thingspace.Read([]byte(document), thingspace.ReadOptions{KeepExtra: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// An answer to CheckDeviceAvailability holds up to 2,000 collections: the default limits admit several times that.
func TestReadManyCollections(t *testing.T) {
	t.Parallel()
	const collections, identifiers = 2000, 6
	var b strings.Builder
	for i := range collections {
		b.WriteString(`<CheckDeviceAvailability><DeviceIdentifiers>`)
		for j := range identifiers {
			fmt.Fprintf(&b, `<DeviceIdentifier><Kind>imei</Kind><Identifier>%d-%d</Identifier></DeviceIdentifier>`, i, j)
		}
		b.WriteString(`</DeviceIdentifiers><Status>Available</Status></CheckDeviceAvailability>`)
	}
	document := withData(b.String())
	m := mustRead(t, document)
	got := m.Callback.CheckDeviceAvailability.Collections
	if len(got) != collections || len(m.Callback.RelatedDevices()) != collections*identifiers || got[1999].DeviceIdentifiers[5].Identifier != "1999-5" {
		t.Fatalf("%d collections, %d identifiers", len(got), len(m.Callback.RelatedDevices()))
	}
	if violations := validate(t, m); len(violations) > 0 {
		t.Error(violations)
	}
	checkMessage(t, []byte(document), "")
}

// A message at the limits of the reader is judged like any other: the validator's own limits are no tighter.
func TestValidateAtTheLimits(t *testing.T) {
	t.Parallel()
	l := soap.Limits{}.WithDefaults()
	attributes := ""
	for i := range l.Attributes {
		attributes += fmt.Sprintf(` a%d="1"`, i)
	}
	depth := l.Depth - 4 // Envelope, Body, CallbackRequest, Data
	for name, content := range map[string]string{
		"text":       "<Comment>" + strings.Repeat("x", l.Text) + "</Comment>",
		"texts":      "<Comment>" + strings.Repeat("<![CDATA["+strings.Repeat("x", l.Text)+"]]>", 7) + "</Comment>",
		"depth":      strings.Repeat("<a>", depth) + strings.Repeat("</a>", depth),
		"open depth": "<Fault>" + strings.Repeat("<a>", depth-1) + strings.Repeat("</a>", depth-1) + "</Fault>",
		"attributes": "<Comment" + attributes + "/>",
		"names":      "<" + strings.Repeat("n", l.Name) + "/>",
		"elements":   strings.Repeat("<a/> ", 900_000),
		"comments":   strings.Repeat("<!---->", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			m := mustRead(t, withData(content))
			if violations := validate(t, m); len(violations) > 0 {
				t.Error(violations)
			}
		})
	}
}

// What is told of a message with long names is short.
func TestLongNamesAreToldInPart(t *testing.T) {
	t.Parallel()
	const depth, long = 50, 1000
	name := strings.Repeat("n", long)
	inner := strings.Repeat("<New/><?p?>", 100_000)
	document := withData(strings.Repeat("<"+name+">", depth) + inner + strings.Repeat("</"+name+">", depth))
	usage := withData("<Usage>" + inner + "</Usage><" + name + "/><Status><" + name + "/></Status><Status/><" + name + "/>")
	var told string
	for _, d := range []string{document, usage} {
		m, err := thingspace.Read([]byte(d), thingspace.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		violations := validate(t, m)
		checkTold(t, m, violations)
		told += strings.Join(m.Extensions, "") + fmt.Sprint(violations)
	}
	if len(told) > 64*512 {
		t.Errorf("%d bytes are told", len(told))
	}
}

// The lists of one message are bounded together, and a refusal says where.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"devices":     request(strings.Repeat("<Device/>", thingspace.MaxItems+1)),
		"collections": withData(strings.Repeat("<CheckDeviceAvailability/>", thingspace.MaxItems+1)),
		"attributes":  withData("<Usage><ExtendedAttributes>" + strings.Repeat("<a/>", thingspace.MaxItems+1) + "</ExtendedAttributes></Usage>"),
		"together": request(strings.Repeat("<Device/>", thingspace.MaxItems/2+1) + "<Data><Usage><ExtendedAttributes>" +
			strings.Repeat("<a/>", thingspace.MaxItems/2+1) + "</ExtendedAttributes></Usage></Data>"),
	} {
		_, err := thingspace.Read([]byte(document), thingspace.ReadOptions{})
		var refused *soap.Error
		if !errors.As(err, &refused) || !errors.Is(err, soap.ErrLimit) || refused.Line != 1 || refused.Column < 1000 || refused.Path == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m := mustRead(t, request(strings.Repeat("<Device/>", thingspace.MaxItems))); len(m.Callback.Devices) != thingspace.MaxItems {
		t.Errorf("%d devices", len(m.Callback.Devices))
	}
}

// As many violations are listed as are asked for.
func TestReadListsTheViolationsAskedFor(t *testing.T) {
	t.Parallel()
	document := withData(strings.Repeat("<Status/>", 100))
	for most, want := range map[int]int{0: thingspace.MaxViolations, -1: 0, 1: 1, 50: 50, 1000: 99} {
		m, err := thingspace.Read([]byte(document), thingspace.ReadOptions{Violations: most})
		if err != nil || len(m.Violations) != want {
			t.Errorf("of at most %d, %d violations are listed, want %d: %v", most, len(m.Violations), want, err)
		}
	}
}

// The largest answers of the platform are taken in one pass, with memory for what is decoded and next to none for the check: texts are parts of
// the document, and lists that grow are what there is to allocate.
func TestReadLargeMemory(t *testing.T) {
	var usage strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&usage, "<ExtendedAttribute><Key>Attribute-%06d</Key><Value>%06d</Value></ExtendedAttribute>", i, i)
	}
	var collections strings.Builder
	for i := range 2000 {
		collections.WriteString("<CheckDeviceAvailability><DeviceIdentifiers>")
		for j := range 16 {
			fmt.Fprintf(&collections, "<DeviceIdentifier><Kind>imei</Kind><Identifier>%07d-%07d</Identifier></DeviceIdentifier>", i, j)
		}
		collections.WriteString("</DeviceIdentifiers><Status>Available</Status></CheckDeviceAvailability>")
	}
	for name, content := range map[string]string{
		"DeviceUsage":             "<Usage><BytesUsed>7</BytesUsed><ExtendedAttributes>" + usage.String() + "</ExtendedAttributes></Usage>",
		"CheckDeviceAvailability": collections.String(),
	} {
		document := []byte(withData(content))
		if len(document) < 2_500_000 {
			t.Fatalf("%s: %d bytes are no large message", name, len(document))
		}
		allocated := func(o thingspace.ReadOptions) float64 {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			m, err := thingspace.Read(document, o)
			runtime.ReadMemStats(&after)
			if err != nil || len(m.Violations) > 0 || m.ExtensionCount > 0 {
				t.Fatalf("%s: %v, %v, %d extensions", name, err, m.Violations, m.ExtensionCount)
			}
			runtime.KeepAlive(m)
			return float64(after.TotalAlloc-before.TotalAlloc) / float64(len(document))
		}
		allocated(thingspace.ReadOptions{}) // the first also makes what is kept for the next
		if times := allocated(thingspace.ReadOptions{Key: true}); times > 3 {
			t.Errorf("%s: %.2f times its %d bytes were allocated", name, times, len(document))
		} else {
			t.Logf("%s: %.2f times its %d bytes", name, times, len(document))
		}
	}
}

// Reading takes a small multiple of the message's size, whatever stands in it.
func TestReadMemory(t *testing.T) {
	for name, content := range map[string]string{
		"extensions": strings.Repeat("<a/>", 1<<20),
		"apart":      strings.Repeat("<a/><!---->", 1<<19),
		"attributes": strings.Repeat(`<Usage a="" b=""/>`, 1<<17),
		"text":       "<Comment>" + strings.Repeat("&#65;", 1<<17) + "</Comment>",
		"lists":      "<Usage><ExtendedAttributes>" + strings.Repeat("<a/>", thingspace.MaxItems) + "</ExtendedAttributes></Usage>" + strings.Repeat("<a/>", 1<<18),
	} {
		document := []byte(withData(content))
		validator, err := validator()
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m, err := thingspace.Read(document, thingspace.ReadOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := validator.Validate(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(m)
		if times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(document)); times > 30 {
			t.Errorf("%s: %.1f times its %d bytes were allocated", name, times, len(document))
		}
	}
}

// Many goroutines share a validator and the decoders.
func TestReadConcurrently(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			g := platform.NewGenerator(uint64(i), platform.Credentials{Username: "acme", Password: secret})
			for _, info := range callback.Catalogue() {
				message := g.Message(info.Service)
				m, err := thingspace.Read(message, thingspace.ReadOptions{})
				if err != nil || m.Username != "acme" || m.Password != secret {
					t.Errorf("%s: %v", info.Service, err)
					continue
				}
				if violations := validate(t, m); len(violations) > 0 {
					t.Errorf("%s: %v", info.Service, violations)
				}
			}
		})
	}
	group.Wait()
}

// The generator plays the platform: what it sends on a service belongs there, is on the schema, and is stored without its password.
func TestReadWhatThePlatformSends(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		g := platform.NewGenerator(rapid.Uint64().Draw(r, "seed"), platform.Credentials{Username: "acme", Password: secret})
		for _, info := range callback.Catalogue() {
			wire := g.Message(info.Service)
			m, err := thingspace.Read(bytes.Clone(wire), thingspace.ReadOptions{})
			if err != nil {
				r.Fatalf("%v\n%s", err, wire)
			}
			if violations := validate(t, m); len(violations) > 0 || !info.Carries(m.Callback.Kind) {
				r.Fatalf("%s got %s with %v\n%s", info.Service, m.Callback.Kind, violations, wire)
			}
			checkMessage(t, wire, "")
			checkDiscreet(t, wire, "")
		}
	})
}

// Validation ends with the request that it is done for.
func TestValidateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Validate(ctx, mustRead(t, withData(""))); !errors.Is(err, context.Canceled) {
		t.Errorf("Validate: %v", err)
	}
	// The session that was cut off is as good as new.
	if violations := validate(t, mustRead(t, withData(""))); len(violations) > 0 {
		t.Error(violations)
	}
}

// A stored message stays readable when a limit is lowered afterwards.
func TestReadStoredUnderLowerLimits(t *testing.T) {
	t.Parallel()
	m := mustRead(t, withData("<Comment>"+strings.Repeat("x", 1<<16)+"</Comment><Usage>"+strings.Repeat("<a/>", 1000)+"</Usage>"))
	again, err := thingspace.ReadStored(m.Stored(), soap.Limits{Bytes: 1024, Text: 16, Tokens: 8})
	if err != nil || len(again.Callback.Comment.Text) != 1<<16 {
		t.Errorf("ReadStored: %v", err)
	}
}

// The credentials are what the sender wrote, whatever the form.
func TestReadCredentials(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		"": "", "x": "x", " x\n": " x\n", "&lt;&#x26;&#62;": "<&>", "<![CDATA[<]]>a<![CDATA[>]]>": "<a>", "a<!-- b -->c<?d e?>f": "acf",
		"a<b>c</b>d": "ad", "p\u00e4ss\U0001f511": "p\u00e4ss\U0001f511",
	} {
		m := mustRead(t, request(`<Username>`+written+`</Username><Password>`+written+`</Password><Data/>`))
		if m.Username != want || m.Password != want {
			t.Errorf("%s: read as %q and %q", written, m.Username, m.Password)
		}
		if stored := string(m.Stored()); written != "" && strings.Contains(stored, "<Password>"+written) || (written == "") == strings.Contains(stored, thingspace.Mask) {
			t.Errorf("%s: stored as %s", written, stored)
		}
	}
}

// What is kept of unknown elements is bounded, and what is not kept is counted: a handler is told that there is more in the stored message.
func TestTreesAreBounded(t *testing.T) {
	t.Parallel()
	const many = 160_000
	for rule, content := range map[string]string{
		"side by side":       `<Data>` + strings.Repeat("<New/>", many) + `<Status xsi:nil="true"/></Data>`,
		"in one":             `<Data><New>` + strings.Repeat("<New/>", many-1) + `</New></Data>`,
		"in many":            `<Data>` + strings.Repeat("<New><a><b/></a><c/></New>", many/4) + `</Data>`,
		"in known members":   `<Data><Usage>` + strings.Repeat("<New/>", many/2) + `</Usage><Fault>` + strings.Repeat("<New/>", many/2) + `</Fault></Data>`,
		"with attributes":    `<Data>` + strings.Repeat(`<New a="1" b="2"/>`, many) + `</Data>`,
		"beside the members": strings.Repeat("<New/>", many) + `<Data/>`,
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			m, err := thingspace.ReadStored(withContent(content), soap.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			c := m.Callback
			trees := [][]callback.Element{c.Extra}
			if c.Usage != nil {
				trees = append(trees, c.Usage.Extra, c.Fault.Extra)
			}
			kept := 0
			var count func([]callback.Element)
			count = func(list []callback.Element) {
				for _, e := range list {
					kept++
					count(e.Elements)
				}
			}
			for _, list := range trees {
				count(list)
			}
			if kept+c.ExtraOmitted != many || kept < 40_000 || kept > 1<<17 || m.ExtensionCount == 0 {
				t.Errorf("of %d elements %d are kept and %d omitted", many, kept, c.ExtraOmitted)
			}
			if again, err := thingspace.Read(withContent(content), thingspace.ReadOptions{}); err != nil || again.Callback.ExtraOmitted != 0 || again.Callback.Kind != c.Kind {
				t.Errorf("without trees: %+v, %v", again, err)
			}
		})
	}
}
