package app

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/admin"
	"callbackd/internal/dispatch"
	"callbackd/internal/inbox/sqlite"
)

// fields are the keys of a type as JSON, and of those within it.
func fields(t reflect.Type) (keys []string) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" {
			keys = append(append(keys, key), fields(f.Type)...)
		}
	}
	return keys
}

// TestTheREADMEHasTheAPI: every operation, field and code, and no word that is none of them. A field that is gone from the program is gone
// from under somebody's script.
func TestTheREADMEHasTheAPI(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, readme, _ := strings.Cut(string(text), "\n## The API\n")
	known := []string{"data_dir", "all"}
	for name, operation := range new(Operator).operations() {
		if !operation.SocketOnly {
			known = append(known, name)
		}
	}
	for _, v := range []any{
		ReleaseRequest{}, sqlite.Released{}, ReplayRequest{}, sqlite.Replayed{}, EraseRequest{}, sqlite.Erased{}, ListDeadRequest{}, ListDeadAnswer{},
		ChangeDeadRequest{}, ChangeDeadAnswer{}, ListHandlersRequest{}, ListHandlersAnswer{}, PauseRequest{}, PauseAnswer{},
		ReloadRequest{}, ReloadAnswer{}, LogLevelRequest{}, LogLevelAnswer{},
	} {
		known = append(known, fields(reflect.TypeOf(v))...)
	}
	for _, result := range []ReloadResult{ReloadApplied, ReloadUnchanged, ReloadRejected} {
		known = append(known, string(result))
	}
	for _, state := range []HandlerState{HandlerReady, HandlerUnready, HandlerPaused, HandlerHeld, HandlerStopped, HandlerRemoved} {
		known = append(known, string(state))
	}
	for _, state := range []dispatch.BreakerState{dispatch.BreakerClosed, dispatch.BreakerOpen, dispatch.BreakerHalfOpen} {
		known = append(known, string(state))
	}
	for _, code := range []admin.Code{admin.BadRequest, admin.Unauthorized, admin.Forbidden, admin.UnknownOperation, admin.NotFound,
		admin.MethodNotAllowed, admin.Conflict, admin.TooLarge, admin.Invalid, admin.Unavailable, admin.Internal} {
		known = append(known, string(code))
		if !regexp.MustCompile(fmt.Sprintf("(?m)^\\| %d \\| .*`%s`", code.Status(), code)).MatchString(readme) {
			t.Errorf("the README has no line for %d %s", code.Status(), code)
		}
	}
	var written []string
	for _, match := range regexp.MustCompile("`([a-z_/-]+)`").FindAllStringSubmatch(readme, -1) {
		written = append(written, match[1])
	}
	for _, word := range known {
		if !slices.Contains(written, word) {
			t.Errorf("the README does not have %s", word)
		}
	}
	for _, word := range written {
		if !slices.Contains(known, word) {
			t.Errorf("the README has %s, and the program does not", word)
		}
	}
}
