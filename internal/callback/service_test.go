package callback_test

import (
	"slices"
	"testing"

	"callbackd/internal/callback"
)

// The names are those of Verizon's pages RegisterCallback and UnregisterCallback; the ports are those of our own choice among
// the registrable ones.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	want := []struct {
		name    string
		port    int
		family  callback.Family
		payload callback.Kind // the first, if any is published
	}{
		{"CarrierService", 28200, callback.APIResponse, "CarrierService"},
		{"DevicePRLInformation", 28201, callback.APIResponse, "PRLInformation"},
		{"DeviceService", 28202, callback.APIResponse, "CheckDeviceAvailability"},
		{"DeviceSuspensionStatus", 28203, callback.APIResponse, "DeviceSuspendStatus"},
		{"DeviceUsage", 28204, callback.APIResponse, "Usage"},
		{"EnhancedConnectivityService", 28205, callback.APIResponse, "SMSDelivery"},
		{"SMSDeliveryConfirmation", 28206, callback.APIResponse, "SMSDelivery"},
		{"ExternalProvisioningChanges", 28207, callback.Notification, "ExternalProvisioningChange"},
		{"PromoChange", 28208, callback.Notification, "PromoChange"},
		{"ResumeTrackingNotification", 28209, callback.Notification, "Comment"},
		{"AlertService", 28210, callback.Notification, ""},
		{"StateService", 28211, callback.APIResponse, ""},
	}
	got := callback.Catalogue()
	if len(got) != len(want) {
		t.Fatalf("%d services, want %d", len(got), len(want))
	}
	for i, w := range want {
		info := got[i]
		payload := callback.Kind("")
		if len(info.Payloads) > 0 {
			payload = info.Payloads[0]
		}
		if string(info.Service) != w.name || info.Port != w.port || info.Families[0] != w.family || payload != w.payload {
			t.Errorf("service %d is %+v, want %+v", i, info, w)
		}
		if !callback.RegistrablePort(info.Port) {
			t.Errorf("%s: the platform does not take port %d", info.Service, info.Port)
		}
		if len(info.Triggers) == 0 {
			t.Errorf("%s answers nothing", info.Service)
		}
		for _, kind := range info.Payloads {
			if !slices.Contains(callback.Kinds(), kind) {
				t.Errorf("%s carries %s, which is no kind", info.Service, kind)
			}
		}
		if found, ok := callback.Lookup(w.name); !ok || found.Port != w.port {
			t.Errorf("Lookup(%q) = %+v, %v", w.name, found, ok)
		}
	}
	info, _ := callback.Lookup("EnhancedConnectivityService")
	if !slices.Equal(info.Families, []callback.Family{callback.APIResponse, callback.DeviceMessage}) ||
		!slices.Equal(info.Payloads, []callback.Kind{callback.KindSMSDelivery, callback.KindSmsMessage}) {
		t.Errorf("EnhancedConnectivityService is %+v", info)
	}
}

func TestLookupMinds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "deviceusage", "DEVICEUSAGE", " DeviceUsage", "PromoChanges", "ExternalProvisioningChange", "NiddService"} {
		if info, ok := callback.Lookup(name); ok {
			t.Errorf("Lookup(%q) = %+v", name, info)
		}
	}
}

// Whoever reads the catalogue may do with it what he likes.
func TestCatalogueIsACopy(t *testing.T) {
	t.Parallel()
	list := callback.Catalogue()
	list[0].Service, list[0].Families[0], list[0].Triggers[0], list[0].Payloads[0] = "X", "X", "X", "X"
	found, _ := callback.Lookup("CarrierService")
	found.Payloads[0] = "Y"
	again := callback.Catalogue()[0]
	if again.Service != "CarrierService" || again.Families[0] != callback.APIResponse || again.Triggers[0] != "ChangeDeviceState" ||
		again.Payloads[0] != callback.KindCarrierService {
		t.Errorf("the catalogue became %+v", again)
	}
}

func TestCarries(t *testing.T) {
	t.Parallel()
	shared := []callback.Kind{callback.KindFault, callback.KindComment, callback.KindSummary, callback.KindStatus, callback.KindUnknown}
	for _, info := range callback.Catalogue() {
		for _, kind := range callback.Kinds() {
			want := len(info.Payloads) == 0 || slices.Contains(info.Payloads, kind) || slices.Contains(shared, kind)
			if got := info.Carries(kind); got != want {
				t.Errorf("%s carries %s: %v, want %v", info.Service, kind, got, want)
			}
		}
	}
	usage, _ := callback.Lookup("DeviceUsage")
	alert, _ := callback.Lookup("AlertService")
	if usage.Carries(callback.KindSmsMessage) || !usage.Carries(callback.KindUsage) || !usage.Carries(callback.KindFault) ||
		!alert.Carries(callback.KindUsage) {
		t.Error("a payload is taken for another service's, or the reverse")
	}
}

func TestRegistrablePort(t *testing.T) {
	t.Parallel()
	allowed := [][2]int{{80, 80}, {443, 443}, {9001, 9006}, {28200, 28220}, {50551, 50559}}
	for port := -1; port <= 1<<16; port++ {
		want := slices.ContainsFunc(allowed, func(r [2]int) bool { return r[0] <= port && port <= r[1] })
		if got := callback.RegistrablePort(port); got != want {
			t.Errorf("RegistrablePort(%d) = %v", port, got)
		}
	}
}
