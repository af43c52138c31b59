package inbox

import (
	"fmt"
	"time"
)

// unattended is how long an append may wait for a writer that has nothing else to do, which takes it at once.
const unattended = 10 * time.Second

// Alive is an error if appends wait and the writer does not take them up; it does not return if the writer's lock is never let go. Either
// is mended by a restart alone. A writer in the middle of a transaction is alive however long that takes: a restart mends no slow disk.
func (w *Writer) Alive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.isBroken() || !w.roundFrom.IsZero() || len(w.appends) == 0 {
		return nil
	}
	if waited := time.Since(w.appends[0].queuedAt); waited > unattended {
		return fmt.Errorf("%d appends wait, the first for %s, and the writer does not take them up", len(w.appends), waited.Round(time.Second))
	}
	return nil
}
