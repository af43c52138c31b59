package app

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callbackd/internal/admin"
)

// TestTheREADMEHasTheAPI: every operation and field, and every code with its status.
func TestTheREADMEHasTheAPI(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, readme, _ := strings.Cut(string(text), "\n## The API\n")
	requests := map[string]any{
		OpRelease: ReleaseRequest{}, OpReplay: ReplayRequest{}, OpErase: EraseRequest{}, OpDeadList: ListDeadRequest{}, OpDeadRequeue: ChangeDeadRequest{},
		OpDeadDiscard: ChangeDeadRequest{}, OpHandlerList: ListHandlersRequest{}, OpPause: PauseRequest{}, OpResume: PauseRequest{},
	}
	for name, operation := range new(Operator).operations() {
		request, ok := requests[name]
		if !ok {
			if !operation.SocketOnly {
				t.Errorf("the test knows no request of %s", name)
			}
			continue
		}
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("the README has no operation %s", name)
		}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(request)) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if key != "" && !strings.Contains(readme, "`"+key+"`") {
				t.Errorf("the README has no field %s of %s", key, name)
			}
		}
	}
	for _, code := range []admin.Code{admin.BadRequest, admin.Unauthorized, admin.Forbidden, admin.UnknownOperation, admin.NotFound,
		admin.MethodNotAllowed, admin.Conflict, admin.TooLarge, admin.Invalid, admin.Unavailable, admin.Internal} {
		found := false
		for line := range strings.Lines(readme) {
			found = found || strings.HasPrefix(line, fmt.Sprintf("| %d |", code.Status())) && strings.Contains(line, "`"+string(code)+"`")
		}
		if !found {
			t.Errorf("the README has no line for %d %s", code.Status(), code)
		}
	}
}
