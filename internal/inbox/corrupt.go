package inbox

import "fmt"

// CorruptError is one entry whose stored bytes cannot be trusted. It wraps [ErrCorruptEntry]; the other entries are not affected.
type CorruptError struct {
	Seq int64
	// Detail says what is wrong, and holds nothing of the message.
	Detail string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: entry %d: %s; a backup may have it whole", ErrCorruptEntry, e.Seq, e.Detail)
}

func (e *CorruptError) Unwrap() error { return ErrCorruptEntry }
