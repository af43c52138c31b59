package faultvfs

import (
	"errors"
	"fmt"
)

var (
	// ErrInUse is wrapped by FS.Close while files are open through the FS.
	ErrInUse = errors.New("files are open")
	// ErrNotEmpty is wrapped by FS.PowerCut when the target folder has entries.
	ErrNotEmpty = errors.New("folder is not empty")
	// ErrSameName is wrapped by FS.PowerCut when two files of the image have the same base name.
	ErrSameName = errors.New("two files of one base name")

	errNoDefault = errors.New("SQLite has no default VFS")
	errNoMemory  = errors.New("out of memory")
)

// codeError is a SQLite result code that came back where no connection could explain it.
type codeError int32

func (e codeError) Error() string { return fmt.Sprintf("SQLite result code %d", int32(e)) }
