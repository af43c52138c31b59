package thingspace_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
)

// disguised disguises a message as it was stored, and reads both.
func disguised(t *testing.T, stored []byte) (text string, before, after *callback.Callback) {
	t.Helper()
	out, err := thingspace.Disguise(stored, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := thingspace.ReadStored(stored, soap.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := thingspace.ReadStored(out, soap.Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out), &b.Callback, &a.Callback
}

// shape is the JSON form of a callback with a letter for each letter and a digit for each digit. Attributes stand in a map: what they are
// called stays, and so do the kinds of devices.
func shape(t *testing.T, c *callback.Callback) string {
	t.Helper()
	var value any
	text, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%v", blurred(value))
}

func blurred(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, member := range v {
			if key != "kind" && key != "name" && key != "namespace" && key != "ipAddress" {
				v[key] = blurred(member)
			}
			if key == "ipAddress" {
				v[key] = "an address"
			}
		}
	case []any:
		for i := range v {
			v[i] = blurred(v[i])
		}
	case string:
		return strings.Map(func(r rune) rune {
			switch {
			case unicode.IsDigit(r):
				return '9'
			case unicode.IsUpper(r):
				return 'A'
			case unicode.IsLetter(r) || r > unicode.MaxASCII && !unicode.IsSpace(r) && !unicode.IsPunct(r):
				return 'a'
			}
			return r
		}, v)
	}
	return value
}

// personal lists what a callback says of somebody: identifiers, accounts, names, addresses, texts.
func personal(c *callback.Callback) []string {
	list := []string{c.RequestID}
	for _, d := range append(c.RelatedDevices(), c.Devices...) {
		list = append(list, d.Identifier)
	}
	if c.SmsMessage != nil {
		list = append(list, strings.Fields(c.SmsMessage.Text)...)
	}
	if c.Fault != nil {
		list = append(list, c.Fault.String, c.Fault.Detail)
	}
	if c.ExternalProvisioningChange != nil && c.ExternalProvisioningChange.DeviceInfo != nil {
		info := c.ExternalProvisioningChange.DeviceInfo
		list = append(append(list, info.AccountName, info.LastActivationBy, info.IPAddress), info.DeviceGroupNames...)
		for _, a := range append(info.ExtendedAttributes, info.CustomFields...) {
			list = append(list, a.Value)
		}
	}
	return slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 || strings.Trim(s, "0-") == "" || s == "true" || s == "false" })
}

func checkDisguise(t *testing.T, name string, stored []byte) {
	t.Helper()
	text, before, after := disguised(t, stored)
	if got, want := shape(t, after), shape(t, before); got != want {
		t.Errorf("%s: the shape is\n%s\nwant\n%s\nof\n%s", name, got, want, text)
	}
	// Names of elements and kinds of devices are nobody's.
	_, texts, _ := strings.Cut(text, ":Body")
	for _, p := range personal(before) {
		if strings.Contains(strings.ToLower(texts), ">"+strings.ToLower(p)) || len(p) > 6 && strings.Contains(strings.ToLower(texts), strings.ToLower(p)) {
			t.Errorf("%s: %q is left in\n%s", name, p, text)
		}
	}
}

func TestADisguisedMessageTellsOfNobodyAndHasTheSameShape(t *testing.T) {
	t.Parallel()
	t.Run("the corpus", func(t *testing.T) {
		t.Parallel()
		checked := 0
		for _, c := range corpus(t) {
			m, err := c.read(true)
			if err != nil {
				continue
			}
			checkDisguise(t, c.name, m.Stored())
			checked++
		}
		if checked < 100 {
			t.Errorf("checked %d messages", checked)
		}
	})
	t.Run("generated messages", func(t *testing.T) {
		t.Parallel()
		g := platform.NewGenerator(5, platform.Credentials{Username: "acme-gmbh", Password: secret})
		services := callback.Catalogue()
		for i := range 500 {
			m, err := thingspace.Read(g.Next(services[i%len(services)].Service).Body, thingspace.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			stored := m.Stored()
			checkDisguise(t, fmt.Sprint(i), stored)
			if text, _, _ := disguised(t, stored); strings.Contains(text, "acme") || strings.Contains(text, "gmbh") {
				t.Fatalf("the user name is left in\n%s", text)
			}
		}
	})
}

// envelope is a message with this content.
func withContent(content string) []byte {
	return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
		`<CallbackRequest xmlns="` + thingspace.Namespace + `"><Username>zebedee</Username><Password>********</Password>` + content + `</CallbackRequest></s:Body></s:Envelope>`)
}

func TestDisguise(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule, content string
		gone, stays   []string
		matches       func(c *callback.Callback) bool
	}{
		{"an identifier is the same wherever it stands, in any letter case",
			`<Device><Kind>esn</Kind><Identifier>60E5F99D</Identifier></Device><Data><Fault><faultstring>no 60e5f99d here</faultstring></Fault></Data>`,
			[]string{"60E5F99D", "60e5f99d"}, []string{">esn<"},
			func(c *callback.Callback) bool {
				return strings.Fields(c.Fault.String)[1] == strings.ToLower(c.Devices[0].Identifier) && strings.Trim(c.Devices[0].Identifier, "0123456789ABCDEF") == ""
			}},
		{"comments and CDATA sections hide nothing",
			`<Data><Comment>415<!-- 4155550137 -->555<![CDATA[0137]]></Comment></Data>`, []string{"4155550137", "0137", "415", "!--", "CDATA"}, nil,
			func(c *callback.Callback) bool {
				return len(c.Comment.Text) == 10 && strings.Contains(c.Comment.Text, "55501")
			}},
		{"a telephone number is fictitious, with or without its country",
			`<Device><Kind>mdn</Kind><Identifier>4158675309</Identifier></Device><Device><Kind>MSISDN</Kind><Identifier>14158675309</Identifier></Device><Data/>`,
			[]string{"8675309"}, nil,
			func(c *callback.Callback) bool {
				return c.Devices[0].Identifier[3:8] == "55501" && c.Devices[1].Identifier[4:9] == "55501" && c.Devices[1].Identifier[0] == '1'
			}},
		{"an IMEI is for tests and has its check digit", `<Device><Kind>IMEI</Kind><Identifier>490154203237518</Identifier></Device><Data/>`,
			[]string{"490154203237518"}, nil,
			func(c *callback.Callback) bool {
				return strings.HasPrefix(c.Devices[0].Identifier, "001010") && luhn(c.Devices[0].Identifier)
			}},
		{"an ICCID has its check digit", `<Device><Kind>ICCID</Kind><Identifier>89148000001471859842</Identifier></Device><Data/>`,
			[]string{"148000001471859842"}, nil,
			func(c *callback.Callback) bool {
				return strings.HasPrefix(c.Devices[0].Identifier, "89") && luhn(c.Devices[0].Identifier)
			}},
		{"the platform's words, numbers and dates stay",
			`<Data><Usage><BytesUsed>1048576</BytesUsed><ServicePlan>M2M 5GB</ServicePlan><Source>Raw Usage</Source><Timestamp>2026-03-14T00:00:00Z</Timestamp>` +
				`<ExtendedAttributes><ExtendedAttribute><Key>MoSms</Key><Value>Quellenhof</Value></ExtendedAttribute></ExtendedAttributes></Usage><Status>Success</Status></Data>`,
			[]string{"Quellenhof", "zebedee"}, []string{">1048576<", ">M2M 5GB<", ">Raw Usage<", ">2026-03-14T00:00:00Z<", ">MoSms<", ">Success<"}, nil},
		{"a number that is the device's is no number of bytes",
			`<Device><Kind>mdn</Kind><Identifier>4158675309</Identifier></Device><Data><Usage><BytesUsed>4158675309</BytesUsed></Usage></Data>`,
			[]string{"4158675309"}, nil, func(c *callback.Callback) bool { return string(c.Usage.BytesUsed) == c.Devices[0].Identifier }},
		{"a status that is prose does not stay", `<Data><Status>Failed for Quellenhof</Status></Data>`, []string{"Quellenhof"}, nil, nil},
		{"nothing stays of what is not known", `<Data><Note by="Quartermaine" at='17 "Fennimore"'>Success of Quellenhof</Note></Data>`,
			[]string{"Quartermaine", "Fennimore", "Quellenhof"}, []string{"<Note by=", " at="},
			func(c *callback.Callback) bool {
				return len(c.Extra[0].Attributes["by"]) == 12 && strings.Count(c.Extra[0].Attributes["at"], `"`) == 2
			}},
		{"nil stays nil", `<Data><Fault xsi:nil="true"/><Comment xsi:nil='1'/><Status>ok</Status></Data>`, nil, []string{`xsi:nil="true"`, `xsi:nil='1'`},
			func(c *callback.Callback) bool { return c.Fault == nil && c.Comment == nil }},
		{"the time of a resumption stays", `<Data><Comment>Device will be auto resumed on - 3/15/2017 12:00:00 AM</Comment></Data>`, nil,
			[]string{">Device will be auto resumed on - 3/15/2017 12:00:00 AM<"}, nil},
		{"an address on the network is one for documents",
			`<Data><ExternalProvisioningChange><DeviceInfo><IPAddress>10.11.12.13</IPAddress></DeviceInfo></ExternalProvisioningChange></Data>`,
			[]string{"10.11.12.13"}, nil,
			func(c *callback.Callback) bool {
				return strings.HasPrefix(c.ExternalProvisioningChange.DeviceInfo.IPAddress, "192.0.2.")
			}},
		{"letters of every language are replaced, and their case stays", `<Data><Comment>Zoë ПРИВЕТ 東京 ☎!</Comment></Data>`,
			[]string{"Zoë", "ПРИВЕТ", "東京", "☎"}, nil,
			func(c *callback.Callback) bool {
				return len(c.Comment.Text) == len("Zoe PRIVET ab c!") && unicode.IsUpper(rune(c.Comment.Text[4])) && strings.HasSuffix(c.Comment.Text, "!")
			}},
		{"the RequestId of nobody stays", `<RequestId>00000000-0000-0000-0000-000000000000</RequestId><Data/>`, nil, []string{">00000000-0000-0000-0000-000000000000<"}, nil},
		{"no line of a text ends the file in an archive", "<Data><Comment>a\n-- b.xml --\r\n- c &lt;&amp;&gt;</Comment></Data>", []string{"\n-"}, nil,
			func(c *callback.Callback) bool {
				return strings.Count(c.Comment.Text, "\n-") == 2 && strings.HasSuffix(c.Comment.Text, " <&>")
			}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			text, _, after := disguised(t, withContent(test.content))
			for _, gone := range test.gone {
				if strings.Contains(text, gone) {
					t.Errorf("%q is left in\n%s", gone, text)
				}
			}
			for _, stays := range test.stays {
				if !strings.Contains(text, stays) {
					t.Errorf("%q is not left in\n%s", stays, text)
				}
			}
			if test.matches != nil && !test.matches(after) {
				t.Errorf("became\n%s", text)
			}
		})
	}
}

func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum%10 == 0
}

func TestDisguiseDependsOnItsKey(t *testing.T) {
	t.Parallel()
	stored := withContent(`<Device><Kind>esn</Kind><Identifier>60E5F99D</Identifier></Device><Data/>`)
	var outs [][]byte
	for _, key := range [][32]byte{{1}, {1}, {2}} {
		out, err := thingspace.Disguise(stored, key)
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	if !bytes.Equal(outs[0], outs[1]) || bytes.Equal(outs[0], outs[2]) {
		t.Errorf("one key, one disguise, and another key, another: got\n%s\n%s\n%s", outs[0], outs[1], outs[2])
	}
	if _, err := thingspace.Disguise([]byte("no XML"), [32]byte{}); err == nil {
		t.Error("what cannot be read is disguised")
	}
}
