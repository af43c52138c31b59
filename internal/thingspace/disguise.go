package thingspace

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
)

// Disguise returns a stored message that reads to the same shape and tells nothing of anybody. What a document of the platform's says in its
// own words stays: kinds, states, plans, codes, numbers and dates, where they stand in members that are known. In all other text, and in
// attributes, each word becomes another of as many digits and letters, the same all over the message, so that what belongs together still
// does. Comments are left out. A telephone number becomes one of the range that is kept for fiction, an IMEI one that is kept for tests.
//
// The key decides the words. It MUST be random and forgotten: who knows it can try all telephone numbers.
func Disguise(stored []byte, key [32]byte) ([]byte, error) {
	m, err := ReadStored(stored, soap.Limits{})
	if err != nil {
		return nil, err
	}
	d := &disguise{key: key, words: make(map[string]string), given: make(map[string]bool), original: make(map[string]bool), kept: make(map[string]bool)}
	if err := rewriteTexts(string(stored), func(text string) string { return eachWord(text, d.note) }, new(strings.Builder)); err != nil {
		return nil, err
	}
	d.keep(reflect.ValueOf(m.Callback), "")
	d.dropIdentifying(append(m.Callback.RelatedDevices(), m.Callback.Devices...), m.Username, m.Callback.RequestID)
	var b strings.Builder
	if err := rewriteTexts(string(stored), d.text, &b); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

// rewriteTexts writes a document with other texts and attribute values, and without comments. It is called with whole texts: comments and
// CDATA sections split what belongs together.
func rewriteTexts(document string, replace func(string) string, b *strings.Builder) error {
	var s soap.Scanner
	s.Reset(document, storedLimits(len(document), soap.Limits{}))
	var run strings.Builder
	for {
		token, err := s.Next()
		if err != nil {
			return err
		}
		if token == soap.Text {
			run.WriteString(s.Text())
			continue
		}
		b.WriteString(textEscaper.Replace(replace(run.String())))
		run.Reset()
		from, to := s.Span()
		switch token {
		case soap.EOF:
			return nil
		case soap.Start:
			for _, a := range s.Attrs() {
				if a.Name.Space == soap.XSI {
					continue
				}
				quote := a.From + strings.IndexAny(document[a.From:a.To], `"'`)
				b.WriteString(document[from : quote+1])
				b.WriteString(valueEscaper.Replace(replace(a.Value)))
				from = a.To - 1
			}
		}
		b.WriteString(document[from:to])
	}
}

var (
	// A line that begins with dashes would end the file in an archive of several.
	textEscaper  = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;", "\n-", "\n&#45;")
	valueEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;", "\r", "&#13;", "\n", "&#10;", "\t", "&#9;")
)

// disguise is the work on one message.
type disguise struct {
	key      [32]byte
	kept     map[string]bool   // texts that stay
	words    map[string]string // what became of a word, in lower case
	given    map[string]bool   // the words that others became
	original map[string]bool   // all words of the message
}

func (d *disguise) note(word string) string {
	d.original[strings.ToLower(word)] = true
	return word
}

// spoken are the members whose texts are the platform's words, unless a longer number stands in them.
var spoken = map[string]bool{
	"Device.Kind": true, "Attribute.Key": true, "CarrierInformation.CarrierName": true, "CarrierInformation.State": true,
	"CarrierInformation.ServicePlan": true, "IdentifierChanged.ServicePlan": true, "ServicePlanChanged.ServicePlan": true, "Activated.ServicePlan": true,
	"Usage.ServicePlan": true, "Usage.Source": true, "Activated.State": true, "Activated.FeatureCodes": true, "SuspendStatus.State": true,
	"Deactivated.Deactivated": true, "Restored.Restored": true, "DeviceInformation.Connected": true, "ExternalProvisioningChange.Change": true,
	"ExternalProvisioningChange.Source": true, "PRLInformation.PRLVersion": true, "Fault.Code": true,
}

// spokenWords are those of which only a single word stays: at other times they are prose.
var spokenWords = map[string]bool{"Status.Text": true, "DeviceCollection.Status": true, "SMSDelivery.Confirmation": true}

// keep collects the texts that stay from what was decoded. What is not known decides nothing.
func (d *disguise) keep(v reflect.Value, member string) {
	switch value := v.Interface().(type) {
	case []callback.Element:
	case callback.Time:
		if _, _, ok := value.Parse(); ok {
			d.kept[strings.TrimSpace(value.Text)] = true
		}
	case callback.Number:
		if _, ok := value.Float64(); ok {
			d.kept[strings.TrimSpace(string(value))] = true
		}
	case callback.Comment:
		if _, ok := value.ResumesAt(); ok {
			d.kept[strings.TrimSpace(value.Text)] = true
		}
	case int:
		d.kept[strconv.Itoa(value)], d.kept["+"+strconv.Itoa(value)] = true, true
	case string:
		if spoken[member] && longestNumber(value) <= longestSpoken || spokenWords[member] && longestNumber(value) == 0 && len(strings.Fields(value)) == 1 {
			d.kept[strings.TrimSpace(value)] = true
		}
	default:
		d.keepWithin(v, member)
	}
}

func (d *disguise) keepWithin(v reflect.Value, member string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			d.keep(v.Elem(), "")
		}
	case reflect.Slice:
		for i := range v.Len() {
			d.keep(v.Index(i), member)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			d.keep(v.Field(i), v.Type().Name()+"."+v.Type().Field(i).Name)
		}
	}
}

// dropIdentifying keeps no text that names a device, a request or a user.
func (d *disguise) dropIdentifying(devices []callback.Device, others ...string) {
	for _, device := range devices {
		others = append(others, device.Identifier)
	}
	identifying := make(map[string]bool)
	for _, text := range others {
		text = strings.ToLower(strings.TrimSpace(text))
		identifying[text] = true
		eachWord(text, func(word string) string {
			identifying[word] = identifying[word] || len(word) > longestSpoken
			return word
		})
	}
	for kept := range d.kept {
		folded := strings.ToLower(kept)
		named := identifying[folded]
		eachWord(folded, func(word string) string { named = named || identifying[word]; return word })
		if named && kept != "" {
			delete(d.kept, kept)
		}
	}
}

const (
	longestSpoken = 5 // digits of a number in the platform's words: longer ones may be anybody's
	shortest      = 4 // characters of a word that no other may become
)

func longestNumber(text string) (longest int) {
	for _, digits := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsDigit(r) }) {
		longest = max(longest, len(digits))
	}
	return longest
}

func (d *disguise) text(text string) string {
	trimmed := strings.TrimSpace(text)
	if d.kept[trimmed] || trimmed == "true" || trimmed == "false" {
		return text
	}
	if address, err := netip.ParseAddr(trimmed); err == nil {
		return d.address(address)
	}
	return eachWord(text, d.word)
}

// address is one of a range that is kept for documents.
func (d *disguise) address(a netip.Addr) string {
	n := d.source(a.String(), 0).Uint64()
	if a.Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + n%254)}).String()
	}
	var b [16]byte
	copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8})
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrFrom16(b).String()
}

// eachWord replaces the words of a text: runs of letters, digits and whatever else is neither space nor punctuation.
func eachWord(text string, replace func(string) string) string {
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, inWord)
		if n < 0 {
			n = len(text)
		}
		b.WriteString(text[:n])
		text = text[n:]
		if n = strings.IndexFunc(text, func(r rune) bool { return !inWord(r) }); n < 0 {
			n = len(text)
		}
		if n > 0 {
			b.WriteString(replace(text[:n]))
		}
		text = text[n:]
	}
	return b.String()
}

func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || r > unicode.MaxASCII && !unicode.IsSpace(r) && !unicode.IsPunct(r)
}

// word is what becomes of a word, in its letter case.
func (d *disguise) word(word string) string {
	folded := strings.ToLower(word)
	if strings.Trim(folded, "0") == "" {
		return word // a number that nobody set
	}
	if _, ok := d.words[folded]; !ok {
		d.words[folded] = d.invent([]rune(folded))
	}
	replaced := []byte(d.words[folded])
	for i, r := range []rune(word) {
		if unicode.IsUpper(r) {
			replaced[i] = byte(unicode.ToUpper(rune(replaced[i])))
		}
	}
	return string(replaced)
}

// invent finds another word of as many characters, that no other word of the message is or has become. Short ones are too few for that.
func (d *disguise) invent(word []rune) (invented string) {
	const patience = 100
	for attempt := range uint64(patience) {
		invented = another(word, d.source(string(word), attempt))
		if invented != string(word) && (len(word) < shortest || !d.original[invented] && !d.given[invented]) {
			break
		}
	}
	d.given[invented] = true
	return invented
}

// source is the randomness for one attempt at one word.
func (d *disguise) source(word string, attempt uint64) *rand.Rand {
	mac := hmac.New(sha256.New, d.key[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, attempt))
	mac.Write([]byte(word))
	return rand.New(rand.NewChaCha8([32]byte(mac.Sum(nil))))
}

// another is a word with digits for digits and letters for letters. Hexadecimal numbers and leading zeros stay so.
func another(word []rune, rng *rand.Rand) string {
	text := string(word)
	numeric := strings.Trim(text, "0123456789") == ""
	letters := 'z' - 'a' + 1
	if strings.Trim(text, "0123456789abcdef") == "" && strings.ContainsAny(text, "0123456789") {
		letters = 'f' - 'a' + 1
	}
	b, leading := make([]byte, len(word)), true
	for i, r := range word {
		switch leading = leading && r == '0'; {
		case leading:
			b[i] = '0'
		case unicode.IsDigit(r):
			b[i] = byte('1' + rng.IntN(9))
		default:
			b[i] = byte('a' + rng.Int32N(letters))
		}
	}
	switch {
	case numeric && len(b) == 10 && text[0] >= '2':
		copy(b[3:], "55501")
	case numeric && len(b) == 11 && text[0] == '1' && text[1] >= '2':
		b[0] = '1'
		copy(b[4:], "55501")
	case numeric && len(b) == 15:
		copy(b, "001010")
		b[14] = checkDigit(b[:14])
	case numeric && len(b) >= 19 && strings.HasPrefix(text, "89"):
		copy(b, "89")
		b[len(b)-1] = checkDigit(b[:len(b)-1])
	}
	if numeric && (len(b) == 10 || len(b) == 11) && b[len(b)-10] == '1' {
		b[len(b)-10] = '2' // no area code begins with 1
	}
	return string(b)
}

// checkDigit is the Luhn digit, which IMEIs and ICCIDs end in.
func checkDigit(digits []byte) byte {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return byte('0' + (10-sum%10)%10)
}
