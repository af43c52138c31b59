package app

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// fileWatch tells that files may have changed. The system tells of changes in their folders at once: in the folders, since editors, and the
// ConfigMaps and Secrets of Kubernetes, put another file or link in the place of the old one. What it cannot tell of, such as a file behind a
// link that leads elsewhere, or on a network's disk, is found by looking now and then.
type fileWatch struct {
	log   *zap.Logger
	ticks <-chan time.Time
	// files lists what to watch, with absolute paths.
	files func() []string
}

const (
	// pollInterval is between two looks for what the system does not tell of.
	pollInterval = 30 * time.Second
	// A file is rarely written in one piece, nor are two that belong together: quiet is how long nothing is to have changed before one looks,
	// and unquiet how long one waits for that.
	quiet   = 200 * time.Millisecond
	unquiet = 2 * time.Second
)

// run calls look whenever something may have changed, until ctx ends.
func (w *fileWatch) run(ctx context.Context, look func()) {
	var events chan fsnotify.Event
	var lost chan error
	system, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("the system tells of no changes of files: they are looked for now and then", zap.Error(err), zap.Duration("every", pollInterval))
	} else {
		defer system.Close()
		events, lost = system.Events, system.Errors
		w.follow(system)
	}
	settled := time.NewTimer(0)
	settled.Stop()
	var since time.Time // of the first change that was not looked at
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if !w.concerns(event) {
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			settled.Reset(min(quiet, max(0, unquiet-time.Since(since))))
			continue
		case err := <-lost: // events
			w.log.Warn("the system may not have told of all changes of files", zap.Error(err))
		case <-settled.C:
		case <-w.ticks:
		}
		since = time.Time{}
		look()
		if err == nil {
			w.follow(system)
		}
	}
}

// concerns reports whether one of the files may hold something else after the event. What is written into others, such as a log beside them,
// does not concern them; but a name that appears or goes may be a link on their way.
func (w *fileWatch) concerns(event fsnotify.Event) bool {
	return event.Op&(fsnotify.Create|fsnotify.Rename|fsnotify.Remove) != 0 || slices.Contains(w.files(), event.Name)
}

// follow watches the folders of the files, and no others. A folder that is not there, or that was put in the place of another, is taken up
// again by the next look.
func (w *fileWatch) follow(system *fsnotify.Watcher) {
	var folders []string
	for _, file := range w.files() {
		folders = append(folders, filepath.Dir(file))
	}
	for _, folder := range system.WatchList() {
		if !slices.Contains(folders, folder) {
			_ = system.Remove(folder) // it may be gone
		}
	}
	for _, folder := range slices.Compact(slices.Sorted(slices.Values(folders))) {
		if err := system.Add(folder); err != nil {
			w.log.Debug("cannot watch a folder: its files are looked at now and then", zap.String("folder", folder), zap.Error(err))
		}
	}
}
