package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"golang.org/x/sys/unix"
)

// examination bounds how long the inbox is read: its log cannot be emptied meanwhile.
const examination = 10 * time.Second

// sample is how many entries are compared with their digests.
const sample = 2000

// store: the structure of the inbox, and some of its entries.
func (p *patient) store(ctx context.Context) []Finding {
	const restore = "stop callbackd, keep a copy of data_dir, and restore the last good backup with `callbackd inbox restore`"
	ctx, cancel := context.WithTimeout(ctx, examination)
	defer cancel()
	r, err := sqlite.OpenReader(ctx, p.c.DataDir)
	if errors.Is(err, inbox.ErrNotFound) {
		return []Finding{{Level: OK, Found: "there is no inbox yet: the first start makes it"}}
	}
	if err != nil {
		return []Finding{unreadable(err)}
	}
	defer r.Close()
	x, err := r.Examine(ctx, sample)
	var findings []Finding
	if len(x.Corrupt) > 0 {
		findings = append(findings, Finding{Level: Fail, Found: fmt.Sprintf("of %d entries %d are not what was stored: %s", x.Sample, len(x.Corrupt), strings.Trim(fmt.Sprint(x.Corrupt), "[]")),
			Advice: "the disk, or somebody, has changed them: " + restore + "; `callbackd inbox backup` names all of them"})
	}
	if len(x.Damage) > 0 {
		findings = append(findings, Finding{Level: Fail, Found: "the database is damaged: " + strings.Join(x.Damage, "; "), Advice: restore})
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		findings = append(findings, Finding{Level: Skipped, Found: fmt.Sprintf("%d entries are as they were stored; the structure could not be checked within %s", x.Sample-len(x.Corrupt), examination),
			Advice: "`callbackd inbox backup FILE` checks all of it, in a copy"})
	case err != nil:
		findings = append(findings, unreadable(err))
	case len(findings) == 0:
		findings = append(findings, Finding{Level: OK, Found: fmt.Sprintf("the structure is sound, and %d entries looked at are as they were stored", x.Sample)})
	}
	return findings
}

func unreadable(err error) Finding {
	if errors.Is(err, fs.ErrPermission) {
		return Finding{Level: Skipped, Found: err.Error(), Advice: "run doctor as the user that owns data_dir"}
	}
	return Finding{Level: Fail, Found: err.Error(), Advice: "`callbackd inbox restore` puts a backup in its place, and keeps what is there"}
}

// permissions: the data directory belongs to who runs callbackd, and to nobody else.
func (p *patient) permissions(context.Context) []Finding {
	_, err := os.Stat(p.c.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{{Subject: p.c.DataDir, Level: OK, Found: "not there yet: the first start makes it, for its user alone"}}
	}
	if err != nil {
		return []Finding{{Subject: p.c.DataDir, Level: Fail, Found: err.Error(), Advice: "run doctor as the user that owns data_dir"}}
	}
	var findings []Finding
	if owner, ok := ownerOf(p.c.DataDir); ok && owner != os.Geteuid() {
		findings = append(findings, Finding{Subject: p.c.DataDir, Level: Warn, Found: fmt.Sprintf("it belongs to user %d, and doctor runs as user %d, who may be able to do more, or less", owner, os.Geteuid()),
			Advice: fmt.Sprintf("run doctor as that user: sudo -u '#%d' callbackd doctor", owner)})
	}
	const others = 0o007
	for _, path := range []string{p.c.DataDir, filepath.Join(p.c.DataDir, sqlite.File)} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&others != 0 {
			findings = append(findings, Finding{Subject: path, Level: Warn, Found: fmt.Sprintf("its mode is %s: every user of this machine gets at personal data", info.Mode().Perm()),
				Advice: "chmod o-rwx " + path})
		}
	}
	if findings == nil {
		findings = []Finding{{Subject: p.c.DataDir, Level: OK, Found: "for its user and group alone; what is wrong with the files of secrets stands under configuration"}}
	}
	return findings
}

func ownerOf(path string) (int, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, false
	}
	return int(st.Uid), true
}
