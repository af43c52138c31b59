package registration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"
)

// ledgerOf opens the ledger of a data directory, as each command does anew.
func ledgerOf(t *testing.T, dataDir, platform string) *registration.Ledger {
	t.Helper()
	state, err := registration.OpenState(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	return registration.NewLedger(state, platform)
}

// register has a ledger own a URL, by registering it with a platform in memory.
func register(t *testing.T, l *registration.Ledger, account string, service callback.Service, url string) {
	t.Helper()
	p := registration.MakePlan(account, want(service, url), nil, nobodys, nil)
	if _, err := registration.Apply(t.Context(), newMemory(), p, applyOptions(l)); err != nil {
		t.Error(err)
	}
}

func TestLedgerOwns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	register(t, ledgerOf(t, dir, registration.DefaultURL), account, callback.PromoChange, ourURL)
	for _, test := range []struct {
		rule                            string
		platform, account, service, url string
		want                            bool
	}{
		{"what was registered, in the next process", registration.DefaultURL, account, "PromoChange", ourURL, true},
		{"however the platform spells the service", registration.DefaultURL, account, "promochanges", ourURL, true},
		{"however the platform spells the URL", registration.DefaultURL, account, "PromoChange", "HTTPS" + strings.TrimPrefix(ourURL, "https"), true},
		{"however the configuration spells the platform", strings.ToUpper(registration.DefaultURL[:20]) + registration.DefaultURL[20:] + "/", account, "PromoChange", ourURL, true},
		{"no other URL", registration.DefaultURL, account, "PromoChange", newURL, false},
		{"nothing for another service", registration.DefaultURL, account, "DeviceUsage", ourURL, false},
		{"nothing for another account", registration.DefaultURL, "0212345678-00002", "PromoChange", ourURL, false},
		{"nothing at another platform", "http://127.0.0.1:28300/api/v2", account, "PromoChange", ourURL, false},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			owned, err := ledgerOf(t, dir, test.platform).Owned(test.account)
			if err != nil {
				t.Fatal(err)
			}
			if got := owned(test.service, test.url); got != test.want {
				t.Errorf("owned: %t", got)
			}
		})
	}
}

func TestLedgerForgetsWhatIsRemoved(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t)
	register(t, ledger, account, callback.DeviceUsage, ourURL)
	register(t, ledger, account, callback.StateService, ourURL)
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	if _, err := registration.Apply(t.Context(), m, registration.MakeRemoval(account, []string{"DeviceUsage"}, m.list(), ours, nil), applyOptions(ledger)); err != nil {
		t.Fatal(err)
	}
	if owns(t, ledger, "DeviceUsage", ourURL) || !owns(t, ledger, "StateService", ourURL) {
		t.Error("want the removed one forgotten, and the other one kept")
	}
}

func TestLedgerOfManyCommandsAtOnceLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var commands sync.WaitGroup
	services := callback.Catalogue()
	for _, info := range services {
		commands.Go(func() { register(t, ledgerOf(t, dir, registration.DefaultURL), account, info.Service, ourURL) })
	}
	commands.Wait()
	for _, info := range services {
		if !owns(t, ledgerOf(t, dir, registration.DefaultURL), string(info.Service), ourURL) {
			t.Errorf("%s is lost", info.Service)
		}
	}
}

func TestLedgerThatCannotBeUnderstoodStopsEverything(t *testing.T) {
	t.Parallel()
	for rule, text := range map[string]string{
		"no JSON":         `{"version": 1, "entr`,
		"another version": `{"version": 2, "entries": []}`,
		"empty":           ``,
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ledger := ledgerOf(t, dir, registration.DefaultURL)
			file := filepath.Join(dir, "registrations", "registered.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ledger.Owned(account); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "--take-over") {
				t.Errorf("error is %v: want the file, and what becomes of it", err)
			}
			m := newMemory(listeners("DeviceUsage", ourURL)...)
			p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil)
			if result, err := registration.Apply(t.Context(), m, p, applyOptions(ledger)); err == nil || m.changes() != "" {
				t.Errorf("%+v after %q: %v", result, m.calls, err)
			}
		})
	}
}

func TestLedgerHoldsNoPasswordAndIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	register(t, ledgerOf(t, dir, registration.DefaultURL), account, callback.DeviceUsage, ourURL)
	file := filepath.Join(dir, "registrations", "registered.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), newest.Password) || !strings.Contains(string(text), fmt.Sprintf("%q: true", "settled")) {
		t.Errorf("ledger is\n%s", text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v: %v", info.Mode(), err)
	}
}
