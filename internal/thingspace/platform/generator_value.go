package platform

import (
	"fmt"
	"strings"
)

// device is one device: its identifiers by kind. Telephone numbers are fictitious, IMEIs are test numbers, ESNs are of the range that
// names no device.
type device map[string]string

func (g *Generator) device() device {
	serial := g.rng.IntN(1 << 24)
	d := device{
		"MDN": g.telephone(), "MIN": g.telephone(), "MEID": fmt.Sprintf("A00000%08X", g.rng.Uint32()), "ESN": fmt.Sprintf("128%08d", serial),
		"IMEI": withCheckDigit("001010" + g.digits(8)), "ICCID": withCheckDigit("8914800000" + g.digits(9)), "EID": "89000000" + g.digits(24),
	}
	d["MSISDN"] = "1" + d["MDN"]
	if g.quirk(QuirkHexESN, 2) {
		d["ESN"] = fmt.Sprintf("80%06X", serial)
	}
	return d
}

func (g *Generator) telephone() string {
	return fmt.Sprintf("%d%02d55501%02d", 2+g.rng.IntN(8), g.rng.IntN(100), g.rng.IntN(100))
}

// kinds are those by which the devices of one request are named.
func (g *Generator) kinds() []string {
	kinds := pick(g, [][]string{{"MDN"}, {"MDN"}, {"ESN"}, {"MEID", "MDN"}, {"ICCID", "IMEI", "MDN"}, {"EID", "ICCID", "IMEI"}, {"MSISDN", "MIN"}})
	if g.without&QuirkSeveralDevices != 0 {
		return kinds[:1]
	}
	return kinds
}

// allKinds are those of SOAP.
var allKinds = []string{"EID", "ESN", "ICCID", "IMEI", "MDN", "MEID", "MIN", "MSISDN"}

// kindForms are the letter cases that were seen.
var kindForms = map[string][]string{"MDN": {"Mdn", "mdn"}, "ESN": {"esn"}, "ICCID": {"iccid", "iccId"}, "IMEI": {"Imei", "imei"}}

// identifiers writes the identifiers of a device, each as an element.
func (g *Generator) identifiers(name string, d device, kinds ...string) string {
	var b strings.Builder
	for _, kind := range kinds {
		written := kind
		if g.quirk(QuirkKindCase, 2) {
			written = pick(g, append(kindForms[kind], strings.ToLower(kind)))
		}
		b.WriteString(wrap(name, element("Kind", written)+element("Identifier", d[kind])))
	}
	return b.String()
}

// withCheckDigit appends the Luhn digit, which IMEIs and ICCIDs end in.
func withCheckDigit(digits string) string {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return digits + string(rune('0'+(10-sum%10)%10))
}

// digits are a number of n digits.
func (g *Generator) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + g.rng.IntN(10))
	}
	if b[0] == '0' {
		b[0] = '3'
	}
	return string(b)
}

func (g *Generator) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", g.rng.Uint32(), g.rng.IntN(1<<16), g.rng.IntN(1<<12), g.rng.IntN(1<<12), g.rng.Int64N(1<<48))
}

func (g *Generator) plan() string {
	return pick(g, []string{"M2M_4G", "M2M_5GB", "IoT-500MB", "R&D <pilot>"})
}

func (g *Generator) address() string {
	return fmt.Sprintf("10.%d.%d.%d", g.rng.IntN(256), g.rng.IntN(256), 1+g.rng.IntN(254))
}

// date is a date and time without a zone.
func (g *Generator) date() string {
	text, iso := g.usDate(), g.timestamp()
	if newer := g.chance(4); newer {
		text = strings.NewReplacer(" AM", "\u202fAM", " PM", "\u202fPM").Replace(text)
	}
	if g.quirk(QuirkUSDate, 1) {
		return text
	}
	return strings.TrimSuffix(iso, "Z")
}

// usDate is a date and time as en-US .NET writes it.
func (g *Generator) usDate() string {
	return fmt.Sprintf("%d/%d/2026 %d:%02d:00 %s", 1+g.rng.IntN(12), 1+g.rng.IntN(28), 1+g.rng.IntN(12), g.rng.IntN(60), pick(g, []string{"AM", "PM"}))
}

func (g *Generator) timestamp() string {
	return fmt.Sprintf("2026-%02d-%02dT%02d:00:00Z", 1+g.rng.IntN(12), 1+g.rng.IntN(28), g.rng.IntN(24))
}

// words are what a device says: white space and letters of every script count.
func (g *Generator) words() string {
	return pick(g, []string{
		fmt.Sprintf("status IP 10.%d.%d.2 Network Ready : LTE  RSSI -%d", g.rng.IntN(256), g.rng.IntN(256), 50+g.rng.IntN(50)),
		fmt.Sprintf("T=%d\u00b0C <ok> & \"running\" \u2713 \U0001f321", g.rng.IntN(60)),
		fmt.Sprintf(" alarm %d\ndoor\topen\r\n", g.rng.IntN(1000)),
	})
}
