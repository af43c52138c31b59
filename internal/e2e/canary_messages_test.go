package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"

	"github.com/google/uuid"
)

// content is what stands in an element without elements.
var content = regexp.MustCompile(`<([\w:]+)[^<>]*>([^<>]+)</`)

// canaryMessage is one of the service's, with canaries where the platform has what is secret or personal.
func canaryMessage(t testing.TB, service callback.Service) []byte {
	t.Helper()
	message := string(platform.NewGenerator(11, platform.Credentials{Username: "acme", Password: canaryPassword}).Message(service))
	return fresh(t, []byte(inContents(message, func(name, text string, _ int) string {
		switch name {
		case "Identifier":
			return canaryPhone
		case "SmsMessage", "Comment", "Message", "Description", "Detail", "AccountName", "DeviceGroupName":
			return canaryText
		}
		return text
	})))
}

// fresh gives a message a RequestId of its own.
func fresh(t testing.TB, message []byte) []byte {
	t.Helper()
	filled, err := platform.Fill(message, platform.Credentials{Username: "acme", Password: canaryPassword}, uuid.NewString())
	if err != nil {
		t.Fatal(err)
	}
	return filled
}

// inContents replaces the contents of elements.
func inContents(message string, replace func(name, text string, number int) string) string {
	var b strings.Builder
	end := 0
	for n, m := range content.FindAllStringSubmatchIndex(message, -1) {
		name := message[m[2]:m[3]]
		b.WriteString(message[end:m[4]])
		b.WriteString(replace(name[strings.IndexByte(name, ':')+1:], message[m[4]:m[5]], n))
		end = m[5]
	}
	return b.String() + message[end:]
}

// sendAll sends the canaries on every way.
func (c *canary) sendAll() {
	c.t.Helper()
	const sms = "SMSDeliveryConfirmation"
	for _, info := range callback.Catalogue() {
		path, message := string(info.Service), canaryMessage(c.t, info.Service)
		if status := c.post(path, message); status != http.StatusOK {
			c.t.Errorf("%s: status %d", path, status)
		}
		c.post(path, message) // a duplicate
		c.sendOffSchema(path, string(message))
	}
	sample, err := platform.Fill(samplesOf(c.t), platform.Credentials{Username: "acme", Password: canaryPassword}, "")
	if err != nil {
		c.t.Fatal(err)
	}
	message := string(sample)
	message = strings.Replace(message, "7022895555", canaryPhone, 1)
	message = inContents(message, func(name, text string, _ int) string {
		if name == "SmsMessage" {
			return canaryText
		}
		return text
	})
	if status := c.post(sms, []byte(message)); status != http.StatusOK {
		c.t.Errorf("SMS: status %d", status)
	}
	c.sendWrongPasswords(sms, message)
	c.sendMalformed(sms, message)
	c.sendStrange(sms, message)
}

func samplesOf(t testing.TB) []byte {
	for _, s := range platform.Samples() {
		if s.Name == "SmsCallbackRequest" {
			return s.Body
		}
	}
	t.Fatal("no sample of an SMS")
	return nil
}

// sendOffSchema puts the canaries where the schema does not have them: into one element after the other, and into extensions.
func (c *canary) sendOffSchema(path, message string) {
	for i := range content.FindAllString(message, -1) {
		c.post(path, fresh(c.t, []byte(inContents(message, func(name, text string, n int) string {
			if n == i && name != "Username" && name != "Password" {
				return canaryText
			}
			return text
		}))))
	}
	end := strings.LastIndex(message, "</Data>")
	if end < 0 {
		return
	}
	for _, extension := range []string{
		"<Customer><Name>" + canaryText + "</Name></Customer>", `<Customer name="` + canaryText + `"/>`, canaryText, "<Status>" + canaryText + "</Status>",
		"<Credentials><Password>" + canaryPassword + "</Password></Credentials>", `<Login password="` + canaryPassword + `"/>`,
		"<!-- " + canaryText + " -->", "<?note " + canaryText + "?>", "<![CDATA[" + canaryText + "]]>",
	} {
		c.post(path, fresh(c.t, []byte(message[:end]+extension+message[end:])))
	}
}

func (c *canary) sendWrongPasswords(path, message string) {
	password := regexp.MustCompile(`<Password>[^<]*</Password>`)
	for _, element := range []string{
		"<Password>" + canaryWrong + "</Password>", "<Password><![CDATA[" + canaryWrong + "]]></Password>", `<Password value="` + canaryWrong + `"/>`,
		"<Password><Value>" + canaryWrong + "</Value></Password>", "<password>" + canaryWrong + "</password>", "<Pasword/>" + "<Password>" + canaryPassword + " </Password>",
		"<Password>" + canaryPassword + "</Password><Password>" + canaryWrong + "</Password>", "<Password><!-- " + canaryWrong + " --></Password>",
		`<x:Password xmlns:x="urn:other">` + canaryWrong + "</x:Password>", "",
	} {
		if status := c.post(path, []byte(password.ReplaceAllLiteralString(message, element))); status == http.StatusOK {
			c.t.Errorf("%s is taken for the password", element)
		}
	}
	header := `<s:Header><wsse:Security xmlns:wsse="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"><wsse:UsernameToken>` +
		"<wsse:Username>acme</wsse:Username><wsse:Password>" + canaryPassword + "</wsse:Password></wsse:UsernameToken></wsse:Security></s:Header>"
	c.post(path, []byte(strings.Replace(message, "<s:Body", header+"<s:Body", 1)))
	c.post(path, []byte(strings.Replace(message, canaryPassword, "<![CDATA["+canaryPassword+"]]>", 1)))
	c.post(path, []byte(message), "Authorization", "Basic YWNtZTpaaWxwemFscC03NTMxLWh1c2g=", "Cookie", "p="+canaryPassword, "X-Forwarded-For", canaryPassword)
}

// sendMalformed breaks the message at place after place.
func (c *canary) sendMalformed(path, message string) {
	for at := 0; at < len(message); at += 23 {
		c.post(path, []byte(message[:at]))
		for _, broken := range []string{"<", "&undefined;", "\x01", "\xff", "</Password>"} {
			c.post(path, []byte(message[:at]+broken+message[at:]))
		}
	}
	for _, broken := range []string{
		strings.Replace(message, "</Password>", "</Passwort>", 1), message + "<again>" + canaryText + canaryPassword + "</again>", message + message,
		`<!DOCTYPE a [<!ENTITY p "` + canaryPassword + `">]>` + message, `<?xml version="1.0" encoding="` + canaryPhone + `"?>` + message,
		strings.Replace(message, "<Password>", `<Password a="`+canaryPassword+`" a="`+canaryText+`">`, 1),
		strings.Replace(message, "<Username>", "<"+strings.Repeat("a", 3000)+">"+canaryPassword, 1),
	} {
		c.post(path, []byte(broken))
	}
}

// sendStrange sends what is no message at all, or one in another guise.
func (c *canary) sendStrange(path, message string) {
	json := fmt.Sprintf(`{"username": "acme", "password": %q, "phone": %q, "text": %q}`, canaryPassword, canaryPhone, canaryText)
	c.post(path, []byte(json), "Content-Type", "application/json")
	c.post(path, []byte(json))
	c.post(path, []byte("username=acme&password="+canaryPassword+"&phone="+canaryPhone), "Content-Type", "application/x-www-form-urlencoded")
	c.post(path, []byte(message+strings.Repeat(" "+canaryText+" "+canaryPassword, 2000))) // more than may be
	c.post(path, []byte(strings.Replace(message, "<Username>", "<Username>"+strings.Repeat(canaryPassword, 300), 1)))
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	fmt.Fprint(w, message)
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.post(path, packed.Bytes(), "Content-Encoding", "gzip")
	c.post(path, packed.Bytes()[:packed.Len()/2], "Content-Encoding", "gzip")
	c.post(path, []byte(message), "Content-Encoding", "gzip")
	wide := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(message)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	c.post(path, wide, "Content-Type", "text/xml; charset=utf-16")
	c.post(path, wide[:len(wide)-7], "Content-Type", "text/xml; charset=utf-16")
	c.post(path+"?password="+canaryPassword+"&phone="+canaryPhone, []byte(message))
	c.post("nowhere/"+canaryPhone, []byte(message))
	if status := c.post("debug/pprof/goroutine", nil); status != http.StatusNotFound {
		c.t.Errorf("a callback port has profiles: status %d", status)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		for _, query := range []string{"?wsdl", "?wsdl&phone=" + canaryPhone, "?password=" + canaryPassword} {
			request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path+query, strings.NewReader(message))
			if err != nil {
				c.t.Fatal(err)
			}
			c.do(request)
		}
	}
	// A sender that goes in the middle, and one that does not speak HTTP.
	for _, text := range []string{"POST /" + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n" + message, message, "POST /" + canaryPassword + "\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.url, "http://"), "/"))
		if err != nil {
			c.t.Fatal(err)
		}
		fmt.Fprint(conn, text)
		_ = conn.Close()
	}
}
