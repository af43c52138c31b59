package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

func (e *env) dead() *cobra.Command {
	c := &cobra.Command{
		Use:   "dead",
		Short: "Look at deliveries that failed for good, and requeue or discard them",
		Long: "Look at dead letters, and requeue or discard them. A dead letter is a delivery that failed for good; its callback is in the inbox,\n" +
			"and is kept until it is requeued and done, or discarded. Its reason is one of\n\n" + reasonsHelp(),
	}
	c.AddCommand(e.deadList(), e.deadShow(), e.deadRequeue(), e.deadDiscard())
	return c
}

// reason is why a delivery failed for good, and what to do about it.
type reason struct{ word, means, remedy string }

func reasons() []reason {
	return []reason{
		{inbox.ReasonExhausted, "the handler failed as often as its max_attempts allows", "mend what the handler delivers to, then requeue"},
		{inbox.ReasonPermanent, "the handler said that no attempt will succeed", "see the cause; requeue when it is mended, else discard"},
		{inbox.ReasonDecode, "this callbackd cannot read the stored message", "requeue with a version that can; `callbackd inbox show` has the message"},
		{inbox.ReasonCorrupt, "the stored bytes are not those that arrived", "a backup may have the entry whole; else discard"},
		{inbox.ReasonRemoved, "the configuration has no such handler any more", "configure it again and requeue, replay to another, or discard"},
	}
}

func reasonsHelp() string {
	var lines []string
	for _, r := range reasons() {
		lines = append(lines, fmt.Sprintf("  %-19s %s: %s", r.word, r.means, r.remedy))
	}
	return strings.Join(lines, "\n")
}

// deadFilter are the flags that select dead letters.
type deadFilter struct {
	filter
	handler, reason string
}

func (f *deadFilter) addTo(e *env, c *cobra.Command) {
	f.addEntryFlags(c)
	c.Flags().StringVar(&f.handler, "handler", "", "was to be made to this handler")
	_ = c.RegisterFlagCompletionFunc("handler", e.completeHandlers) // fails for an unknown flag only
	c.Flags().StringVar(&f.reason, "reason", "", "failed for this reason: "+strings.Join(inbox.DeadReasons(), ", "))
	complete(c, "reason", inbox.DeadReasons())
}

// read reads the flags and the entries named as arguments; everything says that nothing selects.
func (f *deadFilter) read(cmd *cobra.Command, args []string) (selected app.DeadFilter, everything bool, err error) {
	q, err := f.query(cmd, args)
	if err != nil {
		return selected, false, err
	}
	if f.reason != "" && !slices.Contains(inbox.DeadReasons(), f.reason) {
		return selected, false, usagef("--reason %q is none of %s", f.reason, strings.Join(inbox.DeadReasons(), ", "))
	}
	everything = len(args) == 0 && !f.chosen(cmd)
	return app.DeadFilter{Seqs: q.Seqs, Since: q.Since, Until: q.Until, Handler: f.handler, Service: q.Service, Kind: q.Kind, Account: q.Account,
		RequestID: q.RequestID, Device: q.Device, Reason: f.reason}, everything, nil
}

func (e *env) deadList() *cobra.Command {
	var f deadFilter
	c := &cobra.Command{
		Use:   "list [SEQ...]",
		Short: "List dead letters, by the numbers of their callbacks",
		Long: "List dead letters, by the numbers of their callbacks, with their reasons and ages. With -o json it is one array, which scripts can\n" +
			"rely on: fields may be added, none goes away.\n\nThe reasons:\n\n" + reasonsHelp(),
		Example: `  callbackd dead list
  callbackd dead list --handler events --reason attempts_exhausted --since 2d
  callbackd dead list -o json | jq -r '.[].id'`,
		Args: cobra.ArbitraryArgs,
	}
	f.addTo(e, c)
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		selected, _, err := f.read(cmd, args)
		if err != nil {
			return err
		}
		return e.withInbox(cmd.Context(), func(c *config.Config, r *sqlite.Reader) error {
			if *o == asJSON {
				return e.array(func(element func(any) error) error {
					return eachDead(cmd.Context(), r, c, selected, func(d *app.DeadLetter) error { return element(d) })
				})
			}
			var listErr error
			err := e.print(table, nil, func(w io.Writer) { listErr = deadTable(cmd.Context(), w, r, c, selected) })
			return errors.Join(listErr, err)
		})
	}
	return c
}

// eachDead hands over the dead letters that are selected, page by page.
func eachDead(ctx context.Context, r *sqlite.Reader, c *config.Config, selected app.DeadFilter, do func(*app.DeadLetter) error) error {
	for request := (app.ListDeadRequest{DeadFilter: selected}); ; {
		page, err := app.ListDead(ctx, r, c, request)
		if err != nil {
			return err
		}
		for i := range page.DeadLetters {
			if err := do(&page.DeadLetters[i]); err != nil {
				return err
			}
		}
		if page.Next == nil {
			return nil
		}
		request.After = *page.Next
	}
}

func deadTable(ctx context.Context, w io.Writer, r *sqlite.Reader, c *config.Config, selected app.DeadFilter) error {
	row(w, "SEQ", "HANDLER", "REASON", "AGE", "ATTEMPTS", "RECEIVED", "SERVICE", "KIND", "ACCOUNT", "REQUEST ID")
	return eachDead(ctx, r, c, selected, func(d *app.DeadLetter) error {
		row(w, d.Seq, deadHandler(d), d.Reason, age(d.AgeSeconds), d.Attempts, d.ReceivedAt.Format(time.RFC3339), d.Service, d.Kind, d.Account,
			dash(d.RequestID))
		return nil
	})
}

func deadHandler(d *app.DeadLetter) string {
	if d.Replay > 0 {
		return fmt.Sprintf("%s (replay %d)", d.Handler, d.Replay)
	}
	return d.Handler
}

func (e *env) deadShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show a callback's dead letters: the cause of each, and what to do about it",
		Long: "Show a callback's dead letters: the cause of each, and what to do about it. The cause is the handler's error, which may quote the\n" +
			"callback. `callbackd inbox show` has the callback itself. With -o json it is an array, as of `dead list`.",
		Example: `  callbackd dead show 42
  callbackd dead show 42 --handler events -o json`,
		Args: cobra.ExactArgs(1),
	}
	handler := c.Flags().String("handler", "", "was to be made to this handler")
	_ = c.RegisterFlagCompletionFunc("handler", e.completeHandlers) // fails for an unknown flag only
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		selected, _, err := (&deadFilter{handler: *handler}).read(cmd, args)
		if err != nil {
			return err
		}
		return e.withInbox(cmd.Context(), func(c *config.Config, r *sqlite.Reader) error {
			list := []app.DeadLetter{}
			if err := eachDead(cmd.Context(), r, c, selected, func(d *app.DeadLetter) error {
				list = append(list, *d)
				return nil
			}); err != nil {
				return err
			}
			if len(list) == 0 {
				return fmt.Errorf("%w: entry %s has no dead letter", errNotFound, args[0])
			}
			return e.print(*o, list, func(w io.Writer) { deadFacts(w, list) })
		})
	}
	return c
}

func deadFacts(w io.Writer, list []app.DeadLetter) {
	for i := range list {
		d := &list[i]
		if i > 0 {
			row(w)
		}
		means, remedy := d.Reason, ""
		if at := slices.IndexFunc(reasons(), func(r reason) bool { return r.word == d.Reason }); at >= 0 {
			means, remedy = d.Reason+": "+reasons()[at].means, reasons()[at].remedy
		}
		for _, line := range [][2]string{
			{"Seq", fmt.Sprint(d.Seq)}, {"Handler", deadHandler(d)}, {"Delivery", d.ID}, {"Reason", means}, {"Cause", dash(d.Cause)},
			{"To do", dash(remedy)}, {"Attempts", fmt.Sprint(d.Attempts)}, {"Buried", fmt.Sprintf("%s, %s ago", d.BuriedAt.Format(time.RFC3339), age(d.AgeSeconds))},
			{"Received", d.ReceivedAt.Format(time.RFC3339)}, {"Service", d.Service}, {"Kind", d.Kind}, {"Account", d.Account}, {"Request ID", dash(d.RequestID)},
		} {
			row(w, line[0]+":", line[1])
		}
	}
}

func (e *env) deadRequeue() *cobra.Command {
	c := &cobra.Command{
		Use:   "requeue [SEQ...]",
		Short: "Make dead letters pending again",
		Long: "Make dead letters pending again, with all their attempts before them and under the same delivery IDs. Those of handlers that the\n" +
			"configuration does not have are left.",
		Example: `  callbackd dead requeue --handler events --since 2d --dry-run
  callbackd dead requeue --handler events --since 2d
  callbackd dead requeue 42 43`,
	}
	return e.changeDead(c, app.OpDeadRequeue, (*app.Operator).RequeueDead, "requeued")
}

func (e *env) deadDiscard() *cobra.Command {
	c := &cobra.Command{
		Use:   "discard [SEQ...]",
		Short: "Give up dead letters for good",
		Long: "Give up dead letters for good. The callbacks stay in the inbox as long as others do, with who gave up which delivery, and when; they\n" +
			"can be replayed. To discard all dead letters, say --all and --yes.",
		Example: `  callbackd dead discard --reason handler_removed --dry-run
  callbackd dead discard 42 --handler events
  callbackd dead discard --until 30d`,
	}
	return e.changeDead(c, app.OpDeadDiscard, (*app.Operator).DiscardDead, "discarded")
}

// changeDead makes a command of what changes dead letters. One that discards them all has to be told so twice.
func (e *env) changeDead(c *cobra.Command, name string,
	do func(*app.Operator, context.Context, app.ChangeDeadRequest) (app.ChangeDeadAnswer, error), done string) *cobra.Command {
	var f deadFilter
	f.addTo(e, c)
	c.Args = cobra.ArbitraryArgs
	c.Flags().BoolVar(&f.all, "all", false, "take every dead letter")
	yes := name != app.OpDeadDiscard
	if !yes {
		c.Flags().BoolVar(&yes, "yes", false, "with --all, that it is meant")
	}
	dry, o := dryRun(c), output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		selected, everything, err := f.read(cmd, args)
		switch {
		case err != nil:
			return err
		case everything != f.all:
			return usagef("name callbacks by number, select dead letters by flags, or take them with --all")
		case f.all && !yes && !*dry:
			return usagef("this gives up every dead letter: say --yes as well, or look first with --dry-run")
		}
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		answer, err := app.Operate(cmd.Context(), c, e.log(), name, app.ChangeDeadRequest{DeadFilter: selected, All: f.all, DryRun: *dry}, do)
		if err != nil {
			return err
		}
		if err := e.print(*o, answer, func(w io.Writer) { changedTable(w, answer, *dry, done) }); err != nil {
			return err
		}
		return found(answer.Deliveries)
	}
	return c
}

func changedTable(w io.Writer, answer app.ChangeDeadAnswer, dry bool, done string) {
	row(w, would(dry, fmt.Sprintf("%s %d dead letters", done, answer.Deliveries)))
	for _, name := range sorted(answer.Handlers) {
		row(w, fmt.Sprintf("  %s: %d", name, answer.Handlers[name]))
	}
	for _, name := range sorted(answer.Removed) {
		row(w, fmt.Sprintf("left %d of %s, which the configuration does not have", answer.Removed[name], name))
	}
}
