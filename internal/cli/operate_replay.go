package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

func (e *env) inboxReplay() *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use: "replay [SEQ...]",
		Example: `  callbackd inbox replay --since 2026-11-01 --handlers events --dry-run
  callbackd inbox replay --since 2026-11-01 --handlers events --rate 50 --id november
  callbackd inbox replay 42`,
		Short: "Deliver entries again, under new delivery IDs",
		Long: "Deliver entries again, under new delivery IDs: to the handlers that the routes name now, or to those of --handlers.\n" +
			"This is also how a handler that was added later gets what arrived before it. Quarantined entries are passed over, and\n" +
			"what was sent as a test goes to handlers of type log alone, unless --handlers names others.\n\n" +
			"Handlers see that it is a replay, and what has arrived since goes first. A replay with an --id is scheduled once:\n" +
			"run again, after an interruption or by mistake, the command schedules what is missing, if anything is.",
		Args: cobra.ArbitraryArgs,
	}
	f.addTo(c, true)
	dry, o := dryRun(c), output(c)
	var request app.ReplayRequest
	c.Flags().StringSliceVar(&request.Handlers, "handlers", nil, "the handlers to deliver to (default: those of the routes)")
	_ = c.RegisterFlagCompletionFunc("handlers", e.completeHandlers) // fails for an unknown flag only
	c.Flags().Float64Var(&request.Rate, "rate", 0, "how many a second are due to each handler (default: all at once)")
	c.Flags().StringVar(&request.ID, "id", "", "the replay's name, by which it is scheduled once")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := f.narrow(cmd, args)
		if err != nil {
			return err
		}
		for _, name := range []string{"handlers", "id"} { // empty, they would mean all that the routes name, and once more
			if flag := cmd.Flags().Lookup(name); flag.Changed && strings.Trim(flag.Value.String(), "[]") == "" {
				return usagef("--%s is empty: leave it out, or give it a value", name)
			}
		}
		if request.ID != "" && (isAge(f.since) || isAge(f.until)) {
			return usagef("with --id, give --since and --until as times, such as %s: an age is another time when the command runs again",
				time.Now().UTC().Add(-time.Hour).Format(time.RFC3339))
		}
		if err := request.Validate(); err != nil {
			return err
		}
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		request.Entries, request.DryRun = app.EntriesOf(q, f.all), *dry
		answer, err := app.Operate(cmd.Context(), c, e.log(), app.OpReplay, request, (*app.Operator).Replay)
		if err != nil {
			return err
		}
		if err := e.print(*o, answer, func(w io.Writer) { replayedTable(w, answer, *dry) }); err != nil {
			return err
		}
		return found(answer.Deliveries)
	}
	return c
}

func replayedTable(w io.Writer, r sqlite.Replayed, dry bool) {
	switch {
	case r.Known && r.Scheduled == 0:
		row(w, fmt.Sprintf("scheduled nothing: replay %d, %s, has its %d deliveries of %d entries", r.Replay, r.ID, r.Deliveries, r.Entries))
	case r.Known:
		row(w, would(dry, fmt.Sprintf("scheduled %d deliveries, which replay %d, %s, lacked: it has %d of %d entries",
			r.Scheduled, r.Replay, r.ID, r.Deliveries, r.Entries)))
	default:
		row(w, would(dry, fmt.Sprintf("scheduled %d deliveries of %d entries as replay %d", r.Deliveries, r.Entries, r.Replay)))
	}
	corruptRow(w, r.Corrupt)
}
