//go:build unix

package soap_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/soap"
)

// hostile are documents made to cost a reader more than their size is worth, each of about size bytes. Those without a refusal are
// well-formed, and have to be read in time and memory proportional to their size.
var hostile = []struct {
	name    string
	make    func(size int) string
	refusal error
}{
	{"billion laughs", func(size int) string {
		var b strings.Builder
		b.WriteString(`<!DOCTYPE a [<!ENTITY l0 "lol">`)
		for i := range 100 {
			fmt.Fprintf(&b, `<!ENTITY l%d "%s">`, i+1, strings.Repeat(fmt.Sprintf("&l%d;", i), 10))
		}
		return b.String() + "]><a>" + strings.Repeat("&l100;", size/6) + "</a>"
	}, soap.ErrMalformed},
	{"references to entities nobody declared", func(size int) string { return "<a>" + strings.Repeat("&l;", size/3) + "</a>" }, soap.ErrMalformed},
	{"an external entity", func(size int) string {
		return `<!DOCTYPE a SYSTEM "http://127.0.0.1/` + strings.Repeat("a", size) + `"><a/>`
	}, soap.ErrMalformed},
	{"deep nesting", func(size int) string { return strings.Repeat("<a>", size/7) + strings.Repeat("</a>", size/7) }, soap.ErrLimit},
	{"attributes without end on one element", func(size int) string {
		return "<a" + numbered(` a%07d=""`, size/12) + "/>"
	}, soap.ErrLimit},
	{"declarations without end on one element", func(size int) string {
		return "<a" + numbered(` xmlns:a%07d="u"`, size/19) + "/>"
	}, soap.ErrLimit},
	{"a huge element name", func(size int) string { return "<" + strings.Repeat("a", size) + "/>" }, soap.ErrLimit},
	{"a huge attribute name", func(size int) string { return "<a " + strings.Repeat("a", size) + "=''/>" }, soap.ErrLimit},
	{"one text", func(size int) string { return "<a>" + strings.Repeat("x", size) + "</a>" }, soap.ErrLimit},
	{"one comment", func(size int) string { return "<a><!--" + strings.Repeat("x", size) + "--></a>" }, soap.ErrLimit},
	{"one attribute value", func(size int) string { return "<a b='" + strings.Repeat("\t", size) + "'/>" }, soap.ErrLimit},
	{"one reference of zeros", func(size int) string { return "<a>&#" + strings.Repeat("0", size) + "65;</a>" }, soap.ErrLimit},
	{"one reference of nines", func(size int) string { return "<a>&#" + strings.Repeat("9", size) + ";</a>" }, soap.ErrMalformed},
	{"ampersands", func(size int) string { return "<a>" + strings.Repeat("&", size) + "</a>" }, soap.ErrMalformed},
	{"tags that do not end", func(size int) string { return strings.Repeat("<a ", size/3) }, soap.ErrMalformed},
	{"comments that do not end", func(size int) string { return "<a>" + strings.Repeat("<!-", size/3) }, soap.ErrMalformed},
	{"a declaration that does not end", func(size int) string { return "<?xml " + strings.Repeat(" encoding", size/9) }, soap.ErrMalformed},

	{"full sets of attributes", func(size int) string {
		tag := "<b" + numbered(` a%02d=""`, 64) + "/>"
		return in(strings.Repeat(tag, size/len(tag)))
	}, nil},
	{"full sets of attributes with long names", func(size int) string {
		tag := "<b" + numbered(" "+strings.Repeat("a", 1000)+`%02d=""`, 64) + "/>"
		return in(strings.Repeat(tag, size/len(tag)))
	}, nil},
	{"elements beneath all the declarations", func(size int) string {
		return "<a" + numbered(` xmlns:p%02d="u"`, 31) + "><a" + numbered(` xmlns:q%02d="u"`, 31) + ">" + strings.Repeat("<p00:b/>", size/8) + "</a></a>"
	}, nil},
	{"attributes beneath all the declarations", func(size int) string {
		tag := "<b" + numbered(` p00:a%02d=""`, 64) + "/>"
		return "<a" + numbered(` xmlns:p%02d="u"`, 31) + "><a" + numbered(` xmlns:q%02d="u"`, 31) + ">" + strings.Repeat(tag, size/len(tag)) + "</a></a>"
	}, nil},
	{"declarations on every element", func(size int) string {
		tag := "<b" + numbered(` xmlns:p%02d="u"`, 63) + "/>"
		return in(strings.Repeat(tag, size/len(tag)))
	}, nil},
	{"comments", func(size int) string { return in(strings.Repeat("<!---->", size/7)) }, nil},
	{"processing instructions", func(size int) string { return in(strings.Repeat("<?p?>", size/5)) }, nil},
	{"CDATA sections", func(size int) string { return in(strings.Repeat("<![CDATA[]]>", size/12)) }, nil},
	{"carriage returns", func(size int) string { return in(strings.Repeat(strings.Repeat("\r", 1000)+"<b/>", size/1004)) }, nil},
	{"closing brackets", func(size int) string { return in(strings.Repeat(strings.Repeat("]", 1000)+"<b/>", size/1004)) }, nil},
	{"references to characters", func(size int) string { return in(strings.Repeat(strings.Repeat("&#9;", 250)+"<b/>", size/1004)) }, nil},
	{"references of zeros", func(size int) string {
		return in(strings.Repeat("&#"+strings.Repeat("0", 1000)+"65;<b/>", size/1009))
	}, nil},
	{"empty elements", func(size int) string { return in(strings.Repeat("<b/>", size/4)) }, nil},
	{"white space in tags", func(size int) string {
		return in(strings.Repeat("<b"+strings.Repeat(" ", 1000)+"></b"+strings.Repeat("\n", 1000)+">", size/2007))
	}, nil},
}

// TestHostile reads every hostile document at a size and at eight times that size, and measures: what grew with the square of the size
// would take 64 times as long. Nothing may need more than a small multiple of its size in memory.
func TestHostile(t *testing.T) {
	const small, large = 128 << 10, 1 << 20
	limits := soap.Limits{Text: small / 2, Tokens: 1 << 30} // as many tokens as fit, so that their time is measured
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			read := func(document string) time.Duration {
				best := time.Hour
				for range 3 {
					raw := []byte(document)
					begin := processorTime(t)
					text, _, err := soap.Decode(raw, "", limits)
					if err == nil {
						err = scan(text, limits)
					}
					best = min(best, processorTime(t)-begin)
					if !errors.Is(err, h.refusal) {
						t.Fatalf("got %v, want %v", err, h.refusal)
					}
				}
				return best
			}
			document := h.make(large)
			slow, fast := read(document), read(h.make(small))
			t.Logf("%v for %d bytes, %v for %d: %.1f ns a byte", fast, small, slow, large, float64(slow)/large)
			if least := 100 * time.Microsecond; slow > 30*max(fast, least) {
				t.Errorf("%v for %d bytes, %v for %d: more than proportional", fast, small, slow, large)
			}
			if used := allocated(t, func() { _ = scan(document, limits) }); used > uint64(len(document))+64<<10 {
				t.Errorf("%d bytes allocated for %d", used, len(document))
			}
		})
	}
}

// TestMemory: what one message needs beyond the bytes that arrived is a small multiple of them, whatever it is made of.
func TestMemory(t *testing.T) {
	large := message(2000)
	for _, c := range []struct {
		name    string
		raw     []byte
		charset string
		most    float64 // bytes allocated for each byte that arrived
	}{
		{"UTF-8 with few references is not copied", []byte(large), "", 0.05},
		{"ISO-8859-1 is copied once", []byte(strings.ReplaceAll(large, "é", "\xe9")), "iso-8859-1", 1.05},
		{"ISO-8859-1 at its worst", []byte(in(strings.Repeat(strings.Repeat("\xe9", 1000)+"<b/>", 2000))), "iso-8859-1", 2.05},
		{"windows-1252 at its worst", []byte(in(strings.Repeat(strings.Repeat("\x80", 1000)+"<b/>", 2000))), "windows-1252", 3.05},
		{"UTF-16", utf16Of("\ufeff"+large, binary.LittleEndian), "utf-16", 0.6},
		{"UTF-16 at its worst", utf16Of("\ufeff"+in(strings.Repeat(strings.Repeat("€", 1000)+"<b/>", 1000)), binary.BigEndian), "", 1.55},
		{"a reference in every text", []byte(in(strings.Repeat("&lt;<b/>", 1<<17))), "", 2.2}, // 16 bytes are the least under -race
		{"a reference in every attribute", []byte(in(strings.Repeat("<b a='&#x1F600;'/>", 1<<16))), "", 1.05},
		{"a line end in every CDATA section", []byte(in(strings.Repeat("<![CDATA[\r\n\r]]>", 1<<16))), "", 2.2}, // 16 bytes are the least under -race
		{"a namespace on every element", []byte(in(strings.Repeat("<b xmlns='u'/>", 1<<16))), "", 0.05},
	} {
		t.Run(c.name, func(t *testing.T) {
			used := allocated(t, func() {
				document, _, err := soap.Decode(c.raw, c.charset, soap.Limits{})
				if err == nil {
					err = scan(document, soap.Limits{})
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			share := float64(used) / float64(len(c.raw))
			t.Logf("%.2f bytes allocated for each of %d", share, len(c.raw))
			if share > c.most {
				t.Errorf("%.2f bytes allocated for each of %d, want at most %.2f", share, len(c.raw), c.most)
			}
		})
	}
}

// allocated is how many bytes f allocates; no other test runs at the same time.
func allocated(t testing.TB, f func()) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// processorTime is what the process has used of the processors so far, which other processes do not lengthen.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
