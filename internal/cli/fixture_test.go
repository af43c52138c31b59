package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/handler"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
)

// tellsNobody holds a fixture against the entry that it was made of: the same members of the event, and none of its identifiers.
func tellsNobody(ts *testscript.TestScript, args []string) error {
	var shown struct {
		ID        string
		RequestID string `json:"request_id"`
		Event     handler.Event
		Payload   string
	}
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &shown); err != nil {
		return err
	}
	text := ts.ReadFile(args[1])
	archive := txtar.Parse([]byte(text))
	if len(archive.Files) != 2 {
		return fmt.Errorf("the fixture has %d files", len(archive.Files))
	}
	var event handler.Event
	if err := json.Unmarshal(archive.Files[1].Data, &event); err != nil {
		return err
	}
	var errs []error
	identifiers := []string{shown.ID, shown.RequestID, shown.Event.Time.Format("15:04:05"), "acme"}
	for _, d := range append(shown.Event.Data.RelatedDevices(), shown.Event.Data.Devices...) {
		identifiers = append(identifiers, d.Identifier)
	}
	if sms := shown.Event.Data.SmsMessage; sms != nil {
		identifiers = append(identifiers, strings.Fields(sms.Text)...)
	}
	if info := deviceInfo(shown.Event.Data); info != nil {
		identifiers = append(identifiers, info.AccountName)
	}
	for _, id := range identifiers {
		if id != "" && !strings.Contains(shown.Payload, id) && !slices.Contains(identifiers[:3], id) {
			errs = append(errs, fmt.Errorf("%q is not even in the entry", id))
		}
		if len(id) > 2 && strings.Contains(text, id) {
			errs = append(errs, fmt.Errorf("%q is left", id))
		}
	}
	if got, want := members(event), members(shown.Event); !slices.Equal(got, want) {
		errs = append(errs, fmt.Errorf("the event has the members %v, want %v", got, want))
	}
	return errors.Join(errs...)
}

func deviceInfo(c *callback.Callback) *callback.DeviceInformation {
	if c.ExternalProvisioningChange == nil {
		return nil
	}
	return c.ExternalProvisioningChange.DeviceInfo
}

// members lists the paths of what an event has, and their types.
func members(e handler.Event) (list []string) {
	text, err := json.Marshal(e)
	var value any
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		return []string{err.Error()}
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				walk(path+"."+name, member)
			}
		case []any:
			for i, item := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), item)
			}
		default:
			list = append(list, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", value)
	slices.Sort(list)
	return list
}
