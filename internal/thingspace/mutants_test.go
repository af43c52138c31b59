package thingspace_test

import (
	"encoding/xml"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/counterpart"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/internal/uws/listener"
	"callbackd/schemas"
)

var (
	mutants     = flag.Int("mutants", 4000, "how many mutants of the corpus are held against other validators and readers")
	mutantsSeed = flag.Uint64("mutants-seed", 1, "what the mutants are drawn from")
)

// mutantDifferences are the ways in which another validator judges what the schema sees of a message otherwise than the decoder does, with the
// reason. Only documents that the pattern finds something in are excused.
var mutantDifferences = []struct {
	oracle, ours, theirs string
	pattern              *regexp.Regexp
	reason               string
}{
	{"xmllint", valid, invalid, regexp.MustCompile(`<(CallbackCount|MaxCallbackThreshold|faultcode)([^>]*[^>/])?>[^/]*\s[^/]*</`),
		"xmllint does not take white space around an xs:int or xs:QName, though XML Schema part 2, 3.3.17, has it collapsed; and in the document that it gets, white space stands for what was cut"},
	{"xmllint", valid, invalid, regexp.MustCompile(`<!\[CDATA\[\s*\]\]>`),
		"xmllint takes no CDATA section between elements, though one that holds white space is white space"},
	{"the second opinion", valid, invalid, regexp.MustCompile(`(?s)<s:Header.*:nil=.*</s:Header>`),
		"it wants no xsi:nil on an element that nobody declared, in a header; XML Schema part 1, 3.3.4, asks only declarations whether they are nillable"},
	{"the second opinion", valid, invalid, regexp.MustCompile(`(?s)^[^>]*:(schemaLocation|noNamespaceSchemaLocation|type)\s*=`),
		"a schemaLocation or xsi:type of the envelope is a hint that nobody here follows, so the decoder does not judge what is in it"},
}

// TestMutants changes messages of the corpus at random, and holds the decoder's verdict on each against two other validators'.
func TestMutants(t *testing.T) {
	t.Parallel()
	cases := corpusDocuments(t)
	opinion, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the seed is %d", *mutantsSeed)
	rng := rand.New(rand.NewPCG(*mutantsSeed, 1))
	var batch []judged
	count := map[string]int{}
	for i := range *mutants {
		base := cases[rng.IntN(len(cases))]
		document := mutate(rng, base.document)
		m, err := thingspace.Read([]byte(document), thingspace.ReadOptions{KeepExtra: i%2 == 0})
		if err != nil {
			count[refused]++
			continue
		}
		verdict := verdictOf(m.Violations)
		count[verdict]++
		second, err := opinion.Validate(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if verdictOf(second) != verdict && excuse("the second opinion", judged{document: document, verdict: verdict}, verdictOf(second)) < 0 {
			t.Errorf("of a mutant of %s the decoder says %v, the second opinion is %v\n%s\n%s", base.name, m.Violations, second, document, thingspace.Published(m))
		}
		if strings.Count(document, "\r") == strings.Count(document, "\r\n") { // checkTold knows no other line ends
			checkTold(t, m, m.Violations)
		}
		if len(m.Violations) == 0 || m.Violations[0].Rule != "root" {
			batch = append(batch, judged{base.name, thingspace.Published(m), verdict})
		}
		if t.Failed() {
			break
		}
	}
	// Each verdict has to be put to the test.
	for _, verdict := range []string{valid, invalid, refused} {
		if count[verdict] < *mutants/10 {
			t.Errorf("of %d mutants only %d are %s", *mutants, count[verdict], verdict)
		}
	}
	t.Run("xmllint", func(t *testing.T) { againstXmllint(t, batch) })
}

func verdictOf(violations []thingspace.Violation) string {
	if len(violations) > 0 {
		return invalid
	}
	return valid
}

// judged is what the schema sees of a mutant, and the decoder's verdict.
type judged struct{ base, document, verdict string }

// againstXmllint asks xmllint about all of them, many at a time.
func againstXmllint(t *testing.T, list []judged) {
	program := counterpart.Program(t, "xmllint", "the decoder's verdicts on mutants of the corpus against libxml2's")
	dir := t.TempDir()
	writeSchemas(t, dir)
	needed := map[int]bool{}
	for chunk := range slices.Chunk(list, 500) {
		arguments := []string{"--noout", "--nonet", "--schema", "all.xsd"}
		for i, j := range chunk {
			name := fmt.Sprintf("%d.xml", i)
			arguments = append(arguments, name)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(j.document), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), program, arguments...)
		cmd.Dir = dir
		said, _ := cmd.CombinedOutput() // it exits with a status if any document is bad
		theirs := map[string]string{}
		for line := range strings.Lines(string(said)) {
			if name, ok := strings.CutSuffix(strings.TrimSpace(line), " validates"); ok {
				theirs[name] = valid
			} else if name, ok := strings.CutSuffix(strings.TrimSpace(line), " fails to validate"); ok {
				theirs[name] = invalid
			}
		}
		if len(theirs) == 0 {
			t.Fatalf("xmllint does not work: %.2000s", said)
		}
		for i, j := range chunk {
			verdict := theirs[fmt.Sprintf("%d.xml", i)]
			if verdict == "" {
				verdict = refused
			}
			if verdict == j.verdict {
				continue
			}
			reason := excuse("xmllint", j, verdict)
			if needed[reason] = true; reason < 0 {
				t.Fatalf("of a mutant of %s the decoder says %s, xmllint %s\n%s", j.base, j.verdict, verdict, j.document)
			}
		}
	}
	if len(list) >= 50_000 {
		for i, d := range mutantDifferences {
			if d.oracle == "xmllint" && !needed[i] {
				t.Errorf("no mutant needs the excuse that %s", d.reason)
			}
		}
	}
}

// excuse is the place in mutantDifferences of the reason for which another verdict is no mistake of ours, or -1.
func excuse(oracle string, j judged, theirs string) int {
	for i, d := range mutantDifferences {
		if d.oracle == oracle && d.ours == j.verdict && d.theirs == theirs && d.pattern.MatchString(j.document) {
			return i
		}
	}
	return -1
}

// writeSchemas writes the schemas, and all.xsd that imports them.
func writeSchemas(t *testing.T, dir string) {
	t.Helper()
	all := `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">`
	for namespace, name := range map[string]string{
		"http://schemas.xmlsoap.org/soap/envelope/": schemas.Envelope11, "http://www.w3.org/2003/05/soap-envelope": schemas.Envelope12,
		thingspace.Namespace: schemas.Callback,
	} {
		text, err := schemas.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		all += `<xs:import namespace="` + namespace + `" schemaLocation="` + name + `"/>`
	}
	if err := os.WriteFile(filepath.Join(dir, "all.xsd"), []byte(all+`</xs:schema>`), 0o600); err != nil {
		t.Fatal(err)
	}
}

type named struct{ name, document string }

// corpusDocuments are the messages of the corpus that are read, in UTF-8 and without a declaration.
func corpusDocuments(t *testing.T) (list []named) {
	for _, c := range corpus(t) {
		if m, err := c.read(false); err == nil && len(m.Stored()) < 1<<14 {
			document := string(m.Stored())
			if strings.HasPrefix(document, "<?xml") {
				_, document, _ = strings.Cut(document, "?>")
			}
			list = append(list, named{c.name, strings.TrimLeft(document, " \r\n\t")})
		}
	}
	return list
}

var (
	aTag     = regexp.MustCompile(`<[^!?>][^>]*>`)
	anOpener = regexp.MustCompile(`<([A-Za-z][\w.-]*)((?:\s[^>]*)?)(/?)>`)
)

// words are names that mutants know.
var words = []string{
	"Username", "Password", "RequestId", "Device", "Data", "Kind", "Identifier", "CallbackCount", "MaxCallbackThreshold", "SmsMessage", "CarrierService",
	"ChangeDeviceIdentifier", "ChangeDeviceCustomFields", "DeviceIdentifierChanged", "ServicePlan", "ExternalProvisioningChange", "Source", "Change",
	"DeviceInfo", "AccountName", "CarrierInformation", "CarrierName", "State", "DeviceGroupName", "DeviceIdentifiers", "DeviceIdentifier", "PromoChange",
	"ChangeDate", "Usage", "SMSDelivery", "PRLInformation", "DeviceSuspendStatus", "Fault", "Comment", "Summary", "Status", "CheckDeviceAvailability",
	"CallbackRequest", "SmsCallbackRequest", "New", "bytesused", "ActivateDevice", "faultcodeResponse",
}

var texts = []string{"", " ", "\n", "x", "0", "1", "+7", "-0", " 12 ", "2147483648", "007", "1e3", "&#49;", "<![CDATA[ ]]>", "<![CDATA[3]]>", "<!-- -->", "<?p?>", "\u00a0", "&lt;", "true"}

// heads are attributes of the envelope, and headers.
var heads = []string{
	"", ` xmlns:q="http://www.w3.org/2001/XMLSchema-instance" q:nil="false"`, ` a="1"`,
	"", "<s:Header/>", `<s:Header a="1"> <x/> </s:Header>`, `<s:Header>x</s:Header>`,
	`<s:Header><ChangeDeviceIdentifier xmlns="` + thingspace.Namespace + `"><ServicePlan/></ChangeDeviceIdentifier></s:Header>`,
	`<s:Header><ChangeDeviceIdentifier xmlns="` + thingspace.Namespace + `" a="1"/></s:Header>`,
	`<s:Header><ChangeDeviceIdentifier xmlns="` + thingspace.Namespace + `"><New/></ChangeDeviceIdentifier></s:Header>`,
	`<s:Header><ChangeDeviceIdentifier xmlns="` + thingspace.Namespace + `" xmlns:q="http://www.w3.org/2001/XMLSchema-instance" q:nil="1"/></s:Header>`,
	`<s:Header><x><CallbackRequest xmlns="` + thingspace.Namespace + `"/></x></s:Header>`,
	`<s:Header><s:Fault><faultcode>s:Server</faultcode><faultstring/></s:Fault></s:Header>`,
	`<s:Header><s:Fault><faultcode>no:Server</faultcode><faultstring/></s:Fault></s:Header>`,
	`<s:Header><s:Fault><faultcode xmlns:w="urn:w"> w:Server </faultcode><faultstring/><detail><y/></detail></s:Fault></s:Header>`,
	`<s:Header><s:Fault><faultcode>a b</faultcode><faultstring/></s:Fault></s:Header>`,
	`<s:Header><s:Fault><faultstring/></s:Fault></s:Header>`,
}

// openerOf is where the start tag of the envelope ends.
func openerOf(document string) int { return strings.IndexByte(document, '>') + 1 }

// mutate makes one to four changes.
func mutate(rng *rand.Rand, document string) string {
	for range 1 + rng.IntN(4) {
		document = mutateOnce(rng, document)
	}
	return document
}

func mutateOnce(rng *rand.Rand, document string) string {
	tags := aTag.FindAllStringIndex(document, -1)
	openers := anOpener.FindAllStringSubmatchIndex(document, -1)
	if len(tags) < 4 || len(openers) < 4 {
		return document
	}
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	tag := tags[rng.IntN(len(tags))]
	o := openers[min(2+rng.IntN(len(openers)), len(openers)-1)] // seldom the envelope
	from, to := element(document, o)
	switch rng.IntN(15) {
	case 0: // an element less
		return document[:from] + document[to:]
	case 1: // one twice
		return document[:to] + document[from:to] + document[to:]
	case 2: // one elsewhere
		at := tags[2+rng.IntN(len(tags)-3)][0]
		if at > from && at < to {
			return document
		}
		moved := document[from:to]
		if at <= from {
			return document[:at] + moved + document[at:from] + document[to:]
		}
		return document[:from] + document[to:at] + moved + document[at:]
	case 3: // one under another name
		old, name := document[o[2]:o[3]], pick(words)
		inner := document[from:to]
		inner = "<" + name + inner[1+len(old):]
		inner = strings.TrimSuffix(inner, "</"+old+">") + map[bool]string{true: "</" + name + ">"}[strings.HasSuffix(inner, "</"+old+">")]
		return document[:from] + inner + document[to:]
	case 4, 5: // nil, or as good as
		value := pick([]string{"true", "1", "false", "0", "", " true ", "TRUE"})
		return document[:o[3]] + ` xmlns:q="http://www.w3.org/2001/XMLSchema-instance" q:nil="` + value + `"` + document[o[3]:]
	case 6: // no longer nil
		return document[:o[0]] + regexp.MustCompile(`\s\w+:nil="[^"]*"`).ReplaceAllString(document[o[0]:o[1]], "") + document[o[1]:]
	case 7: // text between
		return document[:tag[1]] + pick(texts) + document[tag[1]:]
	case 8: // an element more
		return document[:tag[0]] + "<" + pick(words) + ">" + pick(texts) + "</x>" + document[tag[0]:] // of which few are well-formed
	case 9:
		name := pick(words)
		return document[:tag[0]] + "<" + name + ">" + pick(texts) + "</" + name + ">" + document[tag[0]:]
	case 10: // another namespace
		return document[:o[3]] + ` xmlns="` + pick([]string{"", thingspace.Namespace, "urn:other"}) + `"` + document[o[3]:]
	case 11: // an attribute more
		return document[:o[3]] + pick([]string{` a="1"`, ` xml:lang="en"`, ` xmlns:p="urn:p" p:q="2"`, ` Password="x"`}) + document[o[3]:]
	case 12: // another text
		if end := strings.IndexByte(document[tag[1]:], '<'); end >= 0 {
			return document[:tag[1]] + pick(texts) + document[tag[1]+end:]
		}
		return document
	}
	if rng.IntN(2) == 0 { // something in the head, which the reader of envelopes has no opinion on
		if strings.HasPrefix(document, "<s:Envelope") && !strings.Contains(document, "<s:Header") {
			o := openerOf(document)
			return document[:o-1] + pick(heads[:3]) + ">" + pick(heads[3:]) + document[o:]
		}
		return document
	}
	// A character of another kind.
	at := rng.IntN(len(document))
	return document[:at] + string("<>&;\"'/= \x01]!-?x\u00e9"[rng.IntN(16)]) + document[at+1:]
}

// element delimits the element that an opener begins, as far as texts can tell.
func element(document string, o []int) (from, to int) {
	if o[6] != o[7] {
		return o[0], o[1]
	}
	name := document[o[2]:o[3]]
	depth, at := 1, o[1]
	for depth > 0 {
		begin, end := strings.Index(document[at:], "<"+name), strings.Index(document[at:], "</"+name+">")
		if end < 0 {
			return o[0], o[1]
		}
		if begin >= 0 && begin < end {
			rest := document[at+begin+1+len(name):]
			if close := strings.IndexByte(rest, '>'); close >= 0 && (rest[0] == '>' || rest[0] == ' ' || rest[0] == '\n') && rest[max(close-1, 0)] != '/' {
				depth++
			}
			at += begin + 1
			continue
		}
		depth--
		at += end + len(name) + 3
	}
	return o[0], at
}

// TestMutantsValues puts other texts into the valid messages of the corpus, in other ways to write them, and holds what is read of them against
// what encoding/xml reads into the types that gowsdl made of the WSDL.
func TestMutantsValues(t *testing.T) {
	t.Parallel()
	var cases []named
	for _, c := range corpusDocuments(t) {
		if strings.HasPrefix(c.name, "valid-") && otherValues[c.name] == "" && !strings.Contains(c.document, "<Envelope") && strings.Contains(c.document, "Envelope") {
			cases = append(cases, c)
		}
	}
	if len(cases) < 30 {
		t.Fatalf("%d messages are of use", len(cases))
	}
	rng := rand.New(rand.NewPCG(*mutantsSeed, 2))
	for range *mutants / 4 {
		base := cases[rng.IntN(len(cases))]
		document := otherTexts(rng, base.document)
		m, err := thingspace.Read([]byte(document), thingspace.ReadOptions{KeepExtra: true})
		if err != nil {
			t.Fatalf("%s: %v\n%s", base.name, err, document)
		}
		var theirs struct {
			Request *listener.CallbackRequest    `xml:"Body>CallbackRequest"`
			Sms     *listener.SmsCallbackRequest `xml:"Body>SmsCallbackRequest"`
		}
		if err := xml.Unmarshal([]byte(document), &theirs); err != nil {
			t.Fatalf("%s: encoding/xml: %v\n%s", base.name, err, document)
		}
		var got, want any
		if r := theirs.Request; r != nil {
			r.XMLName, r.Username, r.Password = xml.Name{}, "", ""
			if r.RequestId != nil { // of which we take white space off
				*r.RequestId = strings.TrimSpace(*r.RequestId)
			}
			got, want = asRequest(&m.Callback), r
		} else {
			theirs.Sms.XMLName, theirs.Sms.Username, theirs.Sms.Password = xml.Name{}, "", ""
			got, want = asSms(&m.Callback), theirs.Sms
		}
		prune(reflect.ValueOf(got))
		prune(reflect.ValueOf(want))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %s\nwant %s\n%s", base.name, indented(t, got), indented(t, want), document)
		}
	}
}

// aText is a text that is no number, between the tags of one element.
var aText = regexp.MustCompile(`>([^<>]*[a-zA-Z][^<>]*)</`)

// otherTexts replaces some texts, and writes them in one of many ways.
func otherTexts(rng *rand.Rand, document string) string {
	ways := []func(text string) string{
		func(s string) string { return s },
		func(s string) string { return "<![CDATA[" + s + "]]>" },
		func(s string) string { return "<!-- c -->" + s + "<?p i?>" },
		func(s string) string { return s[:1] + "<!---->" + s[1:] },
		func(s string) string { return fmt.Sprintf("&#%d;%s", s[0], s[1:]) },
		func(s string) string { return fmt.Sprintf("&#x%X;<![CDATA[%s]]>&#9;&amp;&lt;", s[0], s[1:]) },
		func(s string) string { return s + "\r\n\u20ac\U0001F600\r" + s },
		func(s string) string { return s + " ]] &gt; > ' \"" },
	}
	return aText.ReplaceAllStringFunc(document, func(found string) string {
		if rng.IntN(3) > 0 {
			return found
		}
		text := strings.Repeat("abcXYZ09-_."[rng.IntN(9):][:2], 1+rng.IntN(5))
		return ">" + ways[rng.IntN(len(ways))](text) + "</"
	})
}
