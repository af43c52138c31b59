package thingspace_test

import (
	"slices"
	"testing"

	"callbackd/internal/thingspace"
)

// TestSchemaPathsAreThoseOfTheSchema, each once: what is global, what stands in a type, and what stands where a type is open.
func TestSchemaPathsAreThoseOfTheSchema(t *testing.T) {
	t.Parallel()
	paths := thingspace.SchemaPaths()
	if !slices.IsSorted(paths) || len(slices.Compact(slices.Clone(paths))) != len(paths) || len(paths) > 80 {
		t.Errorf("%d paths: %q", len(paths), paths)
	}
	for _, want := range []string{
		"CallbackRequest", "CallbackRequest/Username", "CallbackRequest/Device/Kind", "CallbackRequest/MaxCallbackThreshold",
		"CallbackRequest/Data", "CallbackRequest/Data/PromoChange/ChangeDate", "CallbackRequest/Data/Usage",
		"CallbackRequest/Data/CarrierService/ChangeDeviceIdentifier/DeviceIdentifierChanged/Identifier",
		"CallbackRequest/Data/ExternalProvisioningChange/DeviceInfo/DeviceIdentifiers/DeviceIdentifier/Kind",
		"SmsCallbackRequest/SmsMessage",
	} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s is not among them: %q", want, paths)
		}
	}
	for _, path := range paths {
		if slices.Contains([]string{"CallbackData", "ChangeDeviceIdentifier", "CallbackRequest/Data/CarrierService/CallbackRequest"}, path) {
			t.Errorf("%s is among them", path)
		}
	}
}
