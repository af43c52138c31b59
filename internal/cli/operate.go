package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// change selects entries and hands their numbers to do.
func (e *env) change(ctx context.Context, q inbox.Query, do func(*config.Config, []int64) error) error {
	c, err := e.loadToOperate()
	if err != nil {
		return err
	}
	r, err := sqlite.OpenReader(ctx, c.DataDir)
	if err != nil {
		return err
	}
	chosen, err := seqs(ctx, r, q)
	if err = closeAfter(r, err); err != nil {
		return err
	}
	// A request to the running callbackd has a limit of bytes.
	const most = 500_000
	for part := range slices.Chunk(chosen, most) {
		if err := do(c, part); err != nil {
			return err
		}
	}
	return nil
}

func closeAfter(c io.Closer, err error) error {
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	return err
}

// log is for what opening the inbox has to say when no callbackd runs.
func (e *env) log() *zap.Logger {
	log, err := app.NewLogger(config.Log{Level: "warn", Format: "console"}, e.err)
	if err != nil {
		return zap.NewNop()
	}
	return log
}

func dryRun(c *cobra.Command) *bool {
	return c.Flags().Bool("dry-run", false, "say what would change, and change nothing")
}

func would(dry bool, done string) string {
	if dry {
		return "would have " + done
	}
	return done
}

// found is the verdict on how many there were.
func found(n int) error {
	if n == 0 {
		return errNotFound
	}
	return nil
}

func (e *env) inboxRelease() *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use: "release [SEQ...]",
		Example: `  callbackd inbox release 42 43
  callbackd inbox release --service DeviceUsage --dry-run
  callbackd inbox release --restored`,
		Short: "Let quarantined entries go to their handlers",
		Long: "Let quarantined entries go to the handlers that the routes name now.\n" +
			"With --restored, let the deliveries go that are held since the inbox was restored from a backup.",
		Args: cobra.ArbitraryArgs,
	}
	f.addTo(c, true)
	dry, o := dryRun(c), output(c)
	restored := c.Flags().Bool("restored", false, "release the deliveries that a restore holds")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request := app.ReleaseRequest{Restored: *restored, DryRun: *dry}
		if *restored {
			if len(args) > 0 || f.chosen(cmd) || f.all {
				return usagef("--restored takes all that is held: name no entries beside it")
			}
			c, err := e.loadToOperate()
			if err != nil {
				return err
			}
			return e.release(cmd.Context(), c, request, *o)
		}
		q, err := f.narrow(cmd, args)
		if err != nil {
			return err
		}
		q.State = inbox.Quarantined
		return e.change(cmd.Context(), q, func(c *config.Config, chosen []int64) error {
			request.Seqs = chosen
			return e.release(cmd.Context(), c, request, *o)
		})
	}
	return c
}

func (e *env) release(ctx context.Context, c *config.Config, request app.ReleaseRequest, o format) error {
	answer, err := app.Operate(ctx, c, e.log(), app.OpRelease, request, (*app.Operator).Release)
	if err != nil {
		return err
	}
	return e.print(o, answer, func(w io.Writer) {
		if request.Restored {
			row(w, would(request.DryRun, "released the deliveries that the restore held"))
			return
		}
		row(w, would(request.DryRun, fmt.Sprintf("released %d entries, with %d deliveries", len(answer.Entries), answer.Deliveries)))
		corruptRow(w, answer.Corrupt)
	})
}

func (e *env) inboxErase() *cobra.Command {
	c := &cobra.Command{
		Use: "erase --device IDENTIFIER",
		Example: `  callbackd inbox erase --device 5125550100 --dry-run
  callbackd inbox erase --device 5125550100`,
		Short: "Erase a device's data from the inbox",
		Long: "Erase a device's data from the inbox: the messages about it, its identifiers, and the further sightings of its entries.\n" +
			"A device with several identifiers has to be erased by each. The facts of arrival (when, where, which RequestId) stay.\n\n" +
			"Out of reach are backups, and what handlers did with the callbacks they got; the deliveries are named.",
		Args: cobra.NoArgs,
	}
	device := c.Flags().String("device", "", "the device, by one of its identifiers")
	dry, o := dryRun(c), output(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if *device == "" {
			return usagef("name the device with --device")
		}
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		request := app.EraseRequest{Device: *device, DryRun: *dry}
		answer, err := app.Operate(cmd.Context(), c, e.log(), app.OpErase, request, (*app.Operator).Erase)
		if err != nil {
			return err
		}
		backups, _ := filepath.Glob(filepath.Join(c.DataDir, sqlite.File+".*"))
		if err := e.print(*o, answer, func(w io.Writer) { erasedTable(w, answer, *dry, backups) }); err != nil {
			return err
		}
		return found(len(answer.Entries))
	}
	return c
}

// corruptRow names the entries that a change or a copy met and could not read.
func corruptRow(w io.Writer, seqs []int64) {
	if len(seqs) > 0 {
		row(w, fmt.Sprintf("corrupt, and left as they are: entries %s", strings.Trim(fmt.Sprint(seqs), "[]")))
	}
}

func erasedTable(w io.Writer, answer sqlite.Erased, dry bool, backups []string) {
	row(w, would(dry, fmt.Sprintf("erased the device from %d entries, %d of them whole", len(answer.Entries), len(answer.Whole))))
	for _, id := range answer.Delivered {
		row(w, "out of reach: what a handler did with delivery "+id)
	}
	for _, b := range backups {
		if !strings.HasSuffix(b, "-wal") && !strings.HasSuffix(b, "-shm") {
			row(w, "out of reach: "+b)
		}
	}
	row(w, "out of reach: backups made elsewhere, and texts that mention the device in callbacks of others (comments, extensions)")
}

func (e *env) inboxBackup() *cobra.Command {
	c := &cobra.Command{
		Use:     "backup FILE",
		Example: `  callbackd inbox backup /backup/inbox-$(date +%F).db`,
		Short:   "Write a verified copy of the inbox, while it is in use",
		Long: "Write a copy of the inbox to FILE, which must not exist, while callbackd goes on. The copy is checked before it gets its name:\n" +
			"its structure, and every entry against its digest. It holds personal data and is for its owner alone (mode 0600).",
		Args: cobra.ExactArgs(1),
	}
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return e.withReader(cmd.Context(), func(r *sqlite.Reader) error {
			v, err := r.Backup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return e.print(*o, v, func(w io.Writer) {
				row(w, fmt.Sprintf("backed up %d entries, %.1f MiB, and verified them", v.Entries, float64(v.Bytes)/(1<<20)))
				corruptRow(w, v.Corrupt)
			})
		})
	}
	return c
}

func (e *env) inboxRestore() *cobra.Command {
	c := &cobra.Command{
		Use: "restore FILE",
		Example: `  callbackd inbox restore /backup/inbox-2026-11-24.db --dry-run
  callbackd inbox restore /backup/inbox-2026-11-24.db && callbackd serve`,
		Short: "Put a backup in the place of the inbox",
		Long: "Verify a backup and put it in the place of the inbox. No callbackd may run on data_dir (exit code 4). The inbox that is there is\n" +
			"kept beside it. Deliveries are held until `callbackd inbox release --restored`, for handlers may have seen them before.",
		Args: cobra.ExactArgs(1),
	}
	dry, o := dryRun(c), output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		if _, err := os.Stat(args[0]); err != nil {
			return err
		}
		lock, err := sqlite.LockDir(c.DataDir)
		if err != nil {
			return err
		}
		defer func() { _ = lock.Unlock() }() // the process ends here
		return e.restore(cmd.Context(), args[0], c.DataDir, *dry, *o)
	}
	return c
}

func (e *env) restore(ctx context.Context, backup, dir string, dry bool, o format) error {
	type restored struct {
		sqlite.Verified
		Kept string `json:"kept,omitempty"`
	}
	var r restored
	var err error
	if dry {
		r.Verified, err = sqlite.Verify(ctx, backup)
	} else {
		r.Verified, r.Kept, err = sqlite.Restore(ctx, backup, dir, func() string { return time.Now().UTC().Format("20060102T150405.000000Z") })
	}
	if err != nil {
		return err
	}
	return e.print(o, r, func(w io.Writer) {
		row(w, would(dry, fmt.Sprintf("restored %d entries", r.Entries)))
		corruptRow(w, r.Corrupt)
		if r.Kept != "" {
			row(w, "the inbox that was there: "+r.Kept)
		}
		if !dry {
			row(w, "deliveries are held: `callbackd inbox release --restored` lets them go")
		}
	})
}
