package schemas_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"callbackd/schemas"
)

// difference is what sets a type of callback-wsdl.xsd apart from that of callback.xsd. Particles are written as in the model: name,
// type, "nil" if nillable, then ? for 0..1, * for 0..n and + for 1..n.
type difference struct {
	wire, client []string // particles that one of the two has alone
	why          string
}

const (
	unpublished = "the content is unpublished: open on the wire, the inferred members for clients"
	inferred    = "a type of inferred members, which the wire leaves open"
)

// differences are all differences, by type.
var differences = map[string]difference{
	"(elements)": {
		wire: []string{"ChangeDeviceCustomFields: ChangeDeviceCustomFieldsResponse nil", "ChangeDeviceIdentifier: ChangeDeviceIdentifierResponse nil"},
		why:  "a lax wildcard finds global elements; clients have the two as members of CarrierService",
	},
	"CallbackData": {
		wire: []string{
			"either PromoChange: PromoChange nil or PromoChange: PromoChange nil unqualified ?", "Usage: Unpublished nil ?", "SMSDelivery: Unpublished nil ?",
			"PRLInformation: Unpublished nil ?", "DeviceSuspendStatus: Unpublished nil ?", "Fault: Unpublished nil ?", "Summary: Unpublished nil ?",
			"CheckDeviceAvailability: Unpublished nil *",
		},
		client: []string{
			"PromoChange: PromoChange nil ?", "Usage: Usage nil ?", "SMSDelivery: SMSDelivery nil ?",
			"PRLInformation: PRLInformation nil ?", "DeviceSuspendStatus: DeviceSuspendStatus nil ?", "Fault: Fault nil ?", "Summary: Summary nil ?",
			"CheckDeviceAvailability: CheckDeviceAvailability nil *",
		},
		why: "no generator gives one field two names, so PromoChange stands in the namespace alone; " + unpublished,
	},
	"CarrierServiceCallbackRequest": {
		wire: []string{"any lax *"},
		client: []string{
			"ChangeDeviceCustomFields: Changed nil ?", "ChangeDeviceIdentifier: ChangeDeviceIdentifierResponse nil ?",
			"ChangeDeviceServicePlan: ChangeDeviceServicePlanResponse nil ?", "ChangeDeviceState: ChangeDeviceStateResponse nil ?",
			"ChangeDeviceCostCenter: Changed nil ?", "ChangeDeviceContactInfo: Changed nil ?",
			"Change4GDeviceIdentifier: ChangeDeviceIdentifierResponse nil ?", "MoveDevice: Changed nil ?",
		},
		why: "the order of the members is unpublished: open on the wire, an order of our own for clients",
	},
	"ChangeDeviceCustomFieldsResponse": {wire: []string{"any lax *"}, why: "the wildcard is there for the decoder; clients have Changed, which is empty"},
	"DeviceInformation": {
		client: []string{
			"BillingCycleEndDate: xs:string nil ?", "Connected: xs:string nil ?", "CreatedAt: xs:string nil ?", "CustomFields: CustomFields nil ?",
			"ExtendedAttributes: ExtendedAttributes nil ?", "IPAddress: xs:string nil ?", "LastActivationBy: xs:string nil ?",
			"LastActivationDate: xs:string nil ?", "LastConnectionDate: xs:string nil ?",
		},
		why: "the page is cut after the published members; what follows is inferred, and the decoder takes it out of the wire schema's sight",
	},
	"Unpublished": {wire: []string{"text", "any lax *", "any attribute"}, why: unpublished},

	"Changed":                         {client: []string{}, why: inferred},
	"ChangeDeviceServicePlanResponse": {client: []string{"ServicePlan: xs:string nil ?"}, why: inferred},
	"ChangeDeviceStateResponse": {
		client: []string{"Activate: ActivateResponse nil ?", "Deactivate: DeactivateResponse nil ?", "Suspend: DeviceSuspendStatus nil ?", "Restore: RestoreResponse nil ?"},
		why:    inferred,
	},
	"ActivateResponse": {
		client: []string{
			"DeviceIdentifiers: DeviceIdentifiers nil ?", "ServicePlan: xs:string nil ?", "State: xs:string nil ?", "IPAddress: xs:string nil ?",
			"FeatureCodes: FeatureCodes nil ?",
		},
		why: inferred,
	},
	"FeatureCodes":       {client: []string{"FeatureCode: xs:string *"}, why: inferred},
	"DeactivateResponse": {client: []string{"Deactivated: xs:string nil ?"}, why: inferred},
	"RestoreResponse":    {client: []string{"Restored: xs:string nil ?"}, why: inferred},
	"CustomFields":       {client: []string{"CustomField: CustomField nil *"}, why: inferred},
	"CustomField":        {client: []string{"Key: xs:string nil ?", "Value: xs:string nil ?"}, why: inferred},
	"Usage": {
		client: []string{
			"BytesUsed: xs:string nil ?", "SmsUsed: xs:string nil ?", "ServicePlan: xs:string nil ?", "Source: xs:string nil ?", "Timestamp: xs:string nil ?",
			"ExtendedAttributes: ExtendedAttributes nil ?",
		},
		why: inferred,
	},
	"ExtendedAttributes": {client: []string{"ExtendedAttribute: ExtendedAttribute nil *"}, why: inferred},
	"ExtendedAttribute":  {client: []string{"Key: xs:string nil ?", "Value: xs:string nil ?"}, why: inferred},
	"SMSDelivery":        {client: []string{"Confirmation: xs:string nil ?", "Fault: Fault nil ?"}, why: inferred},
	"PRLInformation":     {client: []string{"PRLVersion: xs:string nil ?", "Fault: Fault nil ?"}, why: inferred},
	"DeviceSuspendStatus": {
		client: []string{
			"ExpectedResumeDate: xs:string nil ?", "MaxSuspendDaysAllowed: xs:string nil ?",
			"NumDaysSuspendAllowedCurrent12Months: xs:string nil ?", "NumDaysSuspendedLast12Months: xs:string nil ?",
		},
		why: inferred,
	},
	"Fault": {
		client: []string{"faultcode: xs:string nil ?", "faultstring: xs:string nil ?", "faultactor: xs:string nil ?", "detail: xs:string nil ?"},
		why:    inferred,
	},
	"Summary":                 {client: []string{"DevicesRequested: xs:string nil ?"}, why: inferred},
	"CheckDeviceAvailability": {client: []string{"DeviceIdentifier: DeviceIdentifier nil *", "Status: xs:string nil ?"}, why: inferred},
}

// TestDifferenceOfTheClientsSchema compares the two schemas, element by element and in order, and wants what the table says and
// nothing else.
func TestDifferenceOfTheClientsSchema(t *testing.T) {
	t.Parallel()
	found := compare(parse(t, schemas.Callback), parse(t, schemas.CallbackWSDL))
	for name, d := range found {
		want, documented := differences[name]
		if !documented || !slices.Equal(d.wire, want.wire) || !slices.Equal(d.client, want.client) {
			t.Errorf("%s differs otherwise than documented\n callback.xsd alone:      %q\n                    want: %q\n callback-wsdl.xsd alone: %q\n                    want: %q",
				name, d.wire, want.wire, d.client, want.client)
		}
	}
	for name, d := range differences {
		if _, ok := found[name]; !ok {
			t.Errorf("%s does not differ any more, and is documented to", name)
		}
		if d.why == "" {
			t.Errorf("%s: no reason is given", name)
		}
	}
}

// TestComparisonSeesEveryKindOfDifference breaks a schema in one way after the other.
func TestComparisonSeesEveryKindOfDifference(t *testing.T) {
	t.Parallel()
	for change, b := range map[string][]string{
		"a member gone":        {"A: xs:string ?"},
		"a member more":        {"A: xs:string ?", "B: T nil *", "C: T"},
		"another type":         {"A: xs:int ?", "B: T nil *"},
		"no longer nillable":   {"A: xs:string ?", "B: T *"},
		"another number":       {"A: xs:string ?", "B: T nil ?"},
		"another order":        {"B: T nil *", "A: xs:string ?"},
		"a wildcard more":      {"A: xs:string ?", "B: T nil *", "any lax *"},
		"a namespace the less": {"A: xs:string unqualified ?", "B: T nil *"},
	} {
		a := model{"Type": {"A: xs:string ?", "B: T nil *"}}
		if len(compare(a, model{"Type": b})) == 0 {
			t.Errorf("%s goes unseen", change)
		}
		if len(compare(a, model{"Type": slices.Clone(a["Type"])})) != 0 {
			t.Error("equal types differ")
		}
	}
	if len(compare(model{"Type": {}}, model{})) == 0 || len(compare(model{}, model{"Type": {}})) == 0 {
		t.Error("a type that one has alone goes unseen")
	}
}

// compare finds the types that differ. Of two types with the same particles in another order, all count as different.
func compare(wire, client model) map[string]difference {
	found := map[string]difference{}
	all := maps.Clone(wire)
	maps.Copy(all, client)
	for name := range all {
		a, inA := wire[name]
		b, inB := client[name]
		d := difference{wire: without(a, b), client: without(b, a)}
		if len(d.wire)+len(d.client) == 0 && inA == inB && slices.Equal(a, b) {
			continue
		}
		if common := without(a, d.wire); !slices.Equal(common, without(b, d.client)) {
			d = difference{wire: a, client: b}
		}
		found[name] = d
	}
	return found
}

// without is a without what stands in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(p string) bool { return slices.Contains(b, p) })
}

// TestClientsSchemaIsWhatGowsdlDigests keeps the schema to what is turned into Go without loss.
func TestClientsSchemaIsWhatGowsdlDigests(t *testing.T) {
	t.Parallel()
	for name, particles := range parse(t, schemas.CallbackWSDL) {
		for _, p := range particles {
			_, kind, _ := strings.Cut(p, ": ")
			kind, _, _ = strings.Cut(kind, " ")
			xs, builtin := strings.CutPrefix(kind, "xs:")
			switch {
			case strings.HasPrefix(p, "either"), strings.HasPrefix(p, "any"), p == "text", strings.Contains(p, "unqualified"):
				t.Errorf("%s: %s", name, p)
			case builtin && xs != "string" && xs != "int" && xs != "long" && xs != "unsignedInt" && xs != "dateTime":
				t.Errorf("%s: %s: gowsdl makes something else of xs:%s", name, p, xs)
			case strings.Contains(p, ".."):
				t.Errorf("%s: %s: gowsdl knows only 1 and unbounded", name, p)
			}
		}
	}
}
