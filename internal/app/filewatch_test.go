package app

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// TestWhatTheSystemDoesNotTellOfIsLookedForNowAndThen: a folder that is not there when the watching begins cannot be watched, and is from the
// first look on that finds it.
func TestWhatTheSystemDoesNotTellOfIsLookedForNowAndThen(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "mounted-later")
	file := filepath.Join(folder, "tls.crt")
	ticks, looked := make(chan time.Time), make(chan bool)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan bool)
	w := fileWatch{log: zap.NewNop(), ticks: ticks, files: func() []string { return []string{file} }}
	go func() {
		defer close(ended)
		w.run(ctx, func() { looked <- true })
	}()
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	ticks <- time.Now()
	<-looked
	ticks <- time.Now() // taken once the folder is watched
	<-looked
	if err := os.WriteFile(file, []byte("a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	<-looked // without a tick
	stop()
	for done := false; !done; {
		select {
		case <-looked: // of a write that came in two
		case <-ended:
			done = true
		}
	}
}

func TestWhatIsWrittenBesideTheFilesConcernsNobody(t *testing.T) {
	t.Parallel()
	w := fileWatch{files: func() []string { return []string{"/etc/callbackd/callbackd.yaml"} }}
	for _, tc := range []struct {
		name string
		op   fsnotify.Op
		want bool
	}{
		{"/etc/callbackd/callbackd.yaml", fsnotify.Write, true},
		{"/etc/callbackd/callbackd.yaml", fsnotify.Chmod, true}, // which may make it readable
		{"/etc/callbackd/events.ndjson", fsnotify.Write, false},
		{"/etc/callbackd/events.ndjson", fsnotify.Chmod, false},
		{"/etc/callbackd/..data", fsnotify.Create, true},
		{"/etc/callbackd/callbackd.yaml", fsnotify.Remove, true},
	} {
		if got := w.concerns(fsnotify.Event{Name: tc.name, Op: tc.op}); got != tc.want {
			t.Errorf("%s of %s: %v", tc.op, tc.name, got)
		}
	}
}
