//go:build unix

package thingspace_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

// benchSamples are the messages that decoding is measured on: the size of the most common one, one of a few hundred devices, and the largest
// that the platform sends.
func benchSamples() []struct{ name, document string } {
	var members strings.Builder
	for _, name := range []string{"CarrierService", "ExternalProvisioningChange", "PromoChange"} {
		fmt.Fprintf(&members, "<%s xsi:nil=\"true\"/>\n", name)
	}
	members.WriteString("<Usage>\n<BytesUsed>1048576</BytesUsed>\n<SmsUsed>12</SmsUsed>\n<ServicePlan>M2M 5MB Share</ServicePlan>\n<Source>Raw Usage</Source>\n" +
		"<Timestamp>2017-03-15T00:00:00</Timestamp>\n<ExtendedAttributes>\n")
	for i := range 9 {
		fmt.Fprintf(&members, "<ExtendedAttribute>\n<Key>Attribute%d</Key>\n<Value>%d</Value>\n</ExtendedAttribute>\n", i, 1000+i)
	}
	members.WriteString("</ExtendedAttributes>\n</Usage>\n")
	members.WriteString("<!-- of the carrier, as it was at the end of the day; a figure may still change until the end of the billing cycle -->\n")
	for _, name := range []string{"SMSDelivery", "PRLInformation", "DeviceSuspendStatus", "Fault", "Comment", "Summary", "Status"} {
		fmt.Fprintf(&members, "<%s xsi:nil=\"true\"/>\n", name)
	}
	device := "<RequestId>2c90bd28-ece4-42ef-9f02-7e3bd4fbff33</RequestId>\n" +
		"<Device>\n<Kind>Mdn</Kind>\n<Identifier>3124705797</Identifier>\n</Device>\n<Device>\n<Kind>ESN</Kind>\n<Identifier>32861234567</Identifier>\n</Device>\n"
	collections := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "<CheckDeviceAvailability>\n<DeviceIdentifiers>\n<DeviceIdentifier>\n<Kind>imei</Kind>\n<Identifier>%015d</Identifier>\n</DeviceIdentifier>\n"+
				"<DeviceIdentifier>\n<Kind>mdn</Kind>\n<Identifier>%010d</Identifier>\n</DeviceIdentifier>\n</DeviceIdentifiers>\n<Status>Available</Status>\n</CheckDeviceAvailability>\n", i, i)
		}
		return b.String()
	}
	credentials := "<Username>acme</Username>\n<Password>" + secret + "</Password>\n"
	return []struct{ name, document string }{
		{"2kB", request(credentials + device + "<Data>\n" + members.String() + "</Data>\n")},
		{"200kB", request(credentials + device + "<Data>\n" + collections(720) + "</Data>\n")},
		{"2000collections", request(credentials + device + "<Data>\n" + collections(2000) + "</Data>\n")},
	}
}

// BenchmarkDecode takes one message apart and checks it, beside what bounds it and what one would take instead, in the same run: a hop from one
// '<' to the next, the tokens of encoding/xml, and another validator, which decodes nothing.
func BenchmarkDecode(b *testing.B) {
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		b.Fatal(err)
	}
	for _, sample := range benchSamples() {
		document := []byte(sample.document)
		judged := mustRead(b, sample.document)
		var ours float64
		for _, way := range []struct {
			name string
			run  func() error
		}{
			{"decode-and-check", func() error {
				m, err := thingspace.Read(document, thingspace.ReadOptions{})
				if err == nil && len(m.Violations) > 0 {
					err = errors.New(m.Violations[0].String())
				}
				return err
			}},
			{"and-key", func() error { // as a receiver reads it
				m, err := thingspace.Read(document, thingspace.ReadOptions{Key: true})
				if err == nil {
					m.Key("CarrierService", "acme", false)
				}
				return err
			}},
			{"stored", func() error {
				_, err := thingspace.ReadStored(document, soap.Limits{})
				return err
			}},
			{"hop", func() error { return hop(document) }},
			{"encoding-xml", func() error { return tokens(document) }},
			{"second-opinion", func() error {
				_, err := opinion.Validate(b.Context(), judged)
				return err
			}},
		} {
			b.Run(sample.name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(int64(len(document)))
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					if err := way.run(); err != nil {
						b.Fatal(err)
					}
				}
				each := float64(cpuTime(b)-before) / float64(b.N)
				if way.name == "decode-and-check" {
					ours = each
				}
				b.ReportMetric(each, "cpu-ns/op")
				b.ReportMetric(float64(len(document))/each*1e3, "cpu-MB/s")
				if ours > 0 {
					b.ReportMetric(each/ours, "x-of-ours")
				}
			})
		}
	}
}

// cpuTime is what the process has used of the processors: unlike the time on the wall, others at work beside it do not lengthen it.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func hop(document []byte) error {
	for n := 0; ; n++ {
		i := bytes.IndexByte(document, '<')
		if i < 0 {
			if n == 0 {
				return errors.New("no tag")
			}
			return nil
		}
		document = document[i+1:]
	}
}

func tokens(document []byte) error {
	d := xml.NewDecoder(bytes.NewReader(document))
	for {
		if _, err := d.RawToken(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
