package inbox

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stalled is a disk that does not answer.
type stalled struct{ disk chan struct{} }

func (s stalled) Prepare(*Append) error { return nil }

func (s stalled) Commit([]*Append, []Settlement) error {
	<-s.disk
	return nil
}

// TestAWriterThatWaitsForItsDiskIsAlive, for the whole hour that the disk takes.
func TestAWriterThatWaitsForItsDiskIsAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := make(chan struct{})
		w := NewWriter(stalled{disk}, WriterOptions{MaxBatch: 1, Budget: 2 * time.Hour}, NewMetrics(prometheus.NewRegistry()), time.Now)
		var appends sync.WaitGroup
		for range 3 {
			appends.Go(func() { _, _ = w.Append(t.Context(), Arrival{}) })
		}
		<-time.After(time.Hour)
		if err := w.Alive(); err != nil {
			t.Errorf("while the disk stalls: %v", err)
		}
		close(disk)
		appends.Wait()
		w.Close()
		if err := w.Alive(); err != nil {
			t.Errorf("once closed: %v", err)
		}
	})
}

// TestAWriterThatTakesNothingUpIsDead has a writer whose loop is gone.
func TestAWriterThatTakesNothingUpIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &Writer{broken: make(chan struct{})}
		w.appends = []*Append{{queuedAt: time.Now()}}
		<-time.After(unattended)
		if err := w.Alive(); err != nil {
			t.Errorf("too early: %v", err)
		}
		<-time.After(time.Second)
		if err := w.Alive(); err == nil {
			t.Error("nobody takes the append up, and the writer is said to be alive")
		}
	})
}
