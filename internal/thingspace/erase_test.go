package thingspace_test

import (
	"strings"
	"testing"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

func TestErase(t *testing.T) {
	t.Parallel()
	collection := func(identifier string) string {
		return "<CheckDeviceAvailability><DeviceIdentifiers><DeviceIdentifier><Kind>mdn</Kind><Identifier>" + identifier +
			"</Identifier></DeviceIdentifier></DeviceIdentifiers></CheckDeviceAvailability>"
	}
	const mine, other, third = "3125550100", "7025550199", "8005550111"
	for name, c := range map[string]struct {
		data string
		rest string // of Data; "" where nothing stays
	}{
		"a collection goes, the others stay":         {collection(other) + collection(mine) + collection(third), collection(other) + collection(third)},
		"all of its collections go":                  {collection(mine) + "\n" + collection(other) + collection(mine), "\n" + collection(other)},
		"nothing stays without a collection":         {collection(mine), ""},
		"a message about the device":                 {"<Usage>" + mine + "</Usage>", ""},
		"a comment of the platform that names it":    {collection(mine) + collection(other) + "<Comment>see " + mine + "</Comment>", ""},
		"an XML comment that names it":               {collection(mine) + collection(other) + "<!-- " + mine + " -->", ""},
		"an XML comment within its collection":       {collection(mine+"<!-- "+mine+" -->") + collection(other), collection(other)},
		"an attribute that names it":                 {collection(mine) + collection(other) + `<New id="` + mine + `"/>`, ""},
		"an attribute within its collection":         {`<CheckDeviceAvailability id="` + mine + `"/>` + collection(other), collection(other)},
		"in references":                              {collection("&#51;125550100") + collection(other), collection(other)},
		"split by a comment":                         {collection("31255<!-- x -->50100") + collection(other), collection(other)},
		"split by CDATA":                             {collection("31255<![CDATA[50100]]>") + collection(other), collection(other)},
		"with white space":                           {collection("\n "+mine+" ") + collection(other), collection(other)},
		"within a longer text":                       {collection("1"+mine) + collection(other), collection(other)},
		"a collection that stands elsewhere":         {"<New>" + collection(mine) + "</New>" + collection(other), ""},
		"a collection within a collection of others": {"<CheckDeviceAvailability>" + collection(mine) + "</CheckDeviceAvailability>" + collection(other), collection(other)},
	} {
		stored := mustRead(t, withData(c.data)).Stored()
		rest := string(thingspace.Erase(stored, mine))
		want := ""
		if c.rest != "" {
			want = string(mustRead(t, withData(c.rest)).Stored())
		}
		if rest != want {
			t.Errorf("%s:\n%s\nleaves\n%s\nwant\n%s", name, stored, rest, want)
		}
		if rest == "" {
			continue
		}
		m, err := thingspace.ReadStored([]byte(rest), soap.Limits{})
		if err != nil {
			t.Errorf("%s: the rest does not read: %v", name, err)
			continue
		}
		for _, d := range m.Callback.RelatedDevices() {
			if strings.Contains(d.Identifier, mine) {
				t.Errorf("%s: still there: %v", name, d)
			}
		}
	}
}

func TestEraseLetterCase(t *testing.T) {
	t.Parallel()
	stored := []byte(withData("<CheckDeviceAvailability>60E5F99D</CheckDeviceAvailability><CheckDeviceAvailability>x</CheckDeviceAvailability>"))
	if rest := string(thingspace.Erase(stored, " 60e5f99d ")); rest != withData("<CheckDeviceAvailability>x</CheckDeviceAvailability>") {
		t.Errorf("left: %s", rest)
	}
}

// Nobody is named by nothing, and a message that cannot be read goes as a whole.
func TestEraseEdges(t *testing.T) {
	t.Parallel()
	stored := []byte(withData("<Usage>7</Usage>"))
	if rest := thingspace.Erase(stored, " "); string(rest) != string(stored) {
		t.Errorf("a blank identifier leaves %s", rest)
	}
	if rest := thingspace.Erase([]byte("<broken 3125550100"), "3125550100"); rest != nil {
		t.Errorf("a broken message leaves %s", rest)
	}
}
