package soap_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"callbackd/internal/soap"
)

// message is a callback in the shape that the platform sends, with a number of device collections. One collection makes 1.9 kB.
func message(collections int) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
  <s:Body>
    <CallbackRequest xmlns="http://nphase.com/unifiedwebservice/v2" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
      <Username>acme</Username>
      <Password>c0rrect &amp; horse</Password>
      <RequestId>3c3b1a7a-53f1-4c7e-9d4e-7a54a2a3e6a4</RequestId>
      <DeviceIds/>
      <Data>
`)
	for n := range collections {
		fmt.Fprintf(&b, `        <DeviceResponse>
          <Device>
            <DeviceIdentifiers>
              <DeviceIdentifier><Identifier>9900004%08d</Identifier><Kind>meid</Kind></DeviceIdentifier>
              <DeviceIdentifier><Identifier>8914800000%010d</Identifier><Kind>iccid</Kind></DeviceIdentifier>
            </DeviceIdentifiers>
            <AccountName>0868924207-00001</AccountName>
            <CustomFields>
              <CustomField><Name>CustomField1</Name><Value>pump &lt;north&gt;</Value></CustomField>
              <CustomField><Name>CustomField2</Name><Value i:nil="true"/></CustomField>
            </CustomFields>
          </Device>
          <UsageResponse>
            <Usage>
              <BytesUsed>%d</BytesUsed>
              <ExtendedAttributes>
                <ExtendedAttribute><Key>ServicePlan</Key><Value>M2M5GB</Value></ExtendedAttribute>
                <ExtendedAttribute><Key>MoSms</Key><Value>%d</Value></ExtendedAttribute>
              </ExtendedAttributes>
              <SmsUsed>0</SmsUsed>
              <Timestamp>2024-05-01T12:00:00Z</Timestamp>
            </Usage>
          </UsageResponse>
        </DeviceResponse>
`, n, n, n*977, n%7)
	}
	b.WriteString(`      </Data>
    </CallbackRequest>
  </s:Body>
</s:Envelope>
`)
	return b.String()
}

// in is a document with content within its root, in which the prefix p is declared.
func in(content string) string { return `<r xmlns:p="urn:p">` + content + `</r>` }

// numbered is n numbers in a format.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// scan reads a document to its end.
func scan(document string, limits soap.Limits) error {
	var s soap.Scanner
	s.Reset(document, limits)
	for {
		token, err := s.Next()
		if err != nil || token == soap.EOF {
			return err
		}
	}
}

// read decodes and scans: it is what a document as it arrives has to pass.
func read(raw []byte, charset string) error {
	document, _, err := soap.Decode(raw, charset, soap.Limits{})
	if err != nil {
		return err
	}
	return scan(document, soap.Limits{})
}

// take reads a document to its end and tells its tokens, one a line: adjacent texts are one, attributes in their order.
func take(document string) (string, error) { return takeWithin(document, soap.Limits{}) }

func takeWithin(document string, limits soap.Limits) (string, error) {
	var s soap.Scanner
	s.Reset(document, limits)
	var told, text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			fmt.Fprintf(&told, "text %q\n", text.String())
			text.Reset()
		}
	}
	for {
		token, err := s.Next()
		if err != nil {
			return told.String(), err
		}
		switch token {
		case soap.Text:
			text.WriteString(s.Text())
			continue
		case soap.EOF:
			return told.String(), nil
		}
		flush()
		if token == soap.End {
			fmt.Fprintf(&told, "end %s\n", tellName(s.Name()))
			continue
		}
		fmt.Fprintf(&told, "start %s", tellName(s.Name()))
		for _, a := range s.Attrs() {
			fmt.Fprintf(&told, " %s=%q", tellName(a.Name), a.Value)
		}
		told.WriteByte('\n')
	}
}

func mustTake(t testing.TB, document string) string {
	t.Helper()
	told, err := take(document)
	if err != nil {
		t.Fatalf("refused: %v\n%.300s", err, document)
	}
	return told
}

// tellName is a name on one line.
func tellName(n soap.Name) string {
	quoted := strconv.Quote(n.String())
	return quoted[1 : len(quoted)-1]
}
