package schemas_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// published are the messages that can be read in public, by the schemas that they are judged by.
var published = []struct {
	file string
	set  set
}{
	{"../internal/thingspace/platform/samples/ResumeTrackingNotification.xml", callbacks},
	{"../internal/thingspace/platform/samples/SmsCallbackRequest.xml", callbacks},
	{"testdata/published/PromoChange.xml", callbacks},
	{"testdata/published/UnregisterCallback-request.xml", registrations},
	{"testdata/published/UnregisterCallback-response.xml", registrations},
	{"testdata/published/LogIn-request.xml", sessions},
	{"testdata/published/StartSmsCallback-request.xml", connections},
	{"testdata/published/StartSmsCallback-response.xml", connections},
}

func TestPublishedMessagesValidate(t *testing.T) {
	t.Parallel()
	for _, p := range published {
		t.Run(filepath.Base(p.file), func(t *testing.T) {
			t.Parallel()
			message := read(t, p.file)
			if err := compile(t, p.set).Validate(t.Context(), strings.NewReader(message)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublishedMessagesValidateInXmllint(t *testing.T) {
	t.Parallel()
	for _, p := range published {
		t.Run(filepath.Base(p.file), func(t *testing.T) {
			t.Parallel()
			for _, said := range newLinter(t, p.set).invalid(t, []string{read(t, p.file)}) {
				t.Error(said)
			}
		})
	}
}

// TestEveryPublishedFileIsTested keeps a sample from lying there unread.
func TestEveryPublishedFileIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, p := range published {
		tested[p.file] = true
	}
	for _, pattern := range []string{"../internal/thingspace/platform/samples/*.xml", "testdata/published/*.xml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			if !tested[name] {
				t.Errorf("%s is not tested", name)
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
