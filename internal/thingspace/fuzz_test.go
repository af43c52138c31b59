package thingspace_test

import (
	"testing"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
)

// FuzzRead holds any bytes against what holds of every message: see checkMessage. Nothing panics, and what was stored can be
// erased from and disguised.
func FuzzRead(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add(c.wire, c.charset)
	}
	f.Fuzz(func(t *testing.T, wire []byte, charset string) {
		checkMessage(t, wire, charset)
		m, err := thingspace.Read(wire, thingspace.ReadOptions{Charset: charset})
		if err != nil {
			return
		}
		disguise, err := thingspace.Disguise(m.Stored(), [32]byte{})
		if err != nil {
			t.Fatalf("what was stored is not disguised: %v", err)
		}
		if after, err := thingspace.ReadStored(disguise, soap.Limits{}); err != nil || after.Callback.Kind != m.Callback.Kind {
			t.Errorf("disguised, a %s is read as %+v, %v", m.Callback.Kind, after, err)
		}
		for _, d := range append(m.Callback.Devices, m.Callback.RelatedDevices()...) {
			rest := thingspace.Erase(m.Stored(), d.Identifier)
			if rest == nil {
				continue
			}
			if _, err := thingspace.ReadStored(rest, soap.Limits{}); err != nil {
				t.Errorf("what is left without %q does not read: %v\n%s", d.Identifier, err, rest)
			}
		}
	})
}
