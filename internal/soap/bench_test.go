package soap_test

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"callbackd/internal/soap"
)

// BenchmarkScanner reads the tokens of one message with this package and with encoding/xml, in pairs, and tells how many times the time
// of ours encoding/xml takes.
func BenchmarkScanner(b *testing.B) {
	for _, m := range []struct {
		name, document string
	}{{"2kB", message(1)}, {"collections=2000", message(2000)}} {
		var ours time.Duration
		b.Run(m.name+"/soap", func(b *testing.B) {
			b.SetBytes(int64(len(m.document)))
			b.ReportAllocs()
			var s soap.Scanner
			for b.Loop() {
				s.Reset(m.document, soap.Limits{})
				for {
					token, err := s.Next()
					if err != nil {
						b.Fatal(err)
					}
					if token == soap.EOF {
						break
					}
				}
			}
			ours = b.Elapsed() / time.Duration(b.N)
		})
		b.Run(m.name+"/encoding-xml", func(b *testing.B) {
			b.SetBytes(int64(len(m.document)))
			b.ReportAllocs()
			for b.Loop() {
				d := xml.NewDecoder(strings.NewReader(m.document))
				for {
					if _, err := d.Token(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			if ours > 0 {
				b.ReportMetric(float64(b.Elapsed()/time.Duration(b.N))/float64(ours), "x-of-soap")
			}
		})
	}
}
