package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"callbackd/internal/app"

	"github.com/spf13/cobra"
)

func (e *env) handlerList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the handlers: how each stands, what waits for it, and since when",
		Long: "List the handlers: how each stands, what waits for it, and since when.\n\n" +
			"A handler is ready, unready (it fails, and STATE says how), paused, held (nothing is delivered since a restore), stopped (no\n" +
			"callbackd runs) or removed (the configuration has it no more). While it fails, its breaker is open: it is given a delivery now and\n" +
			"then, as a probe. LAG is the age of the oldest callback that it has yet to get.\n\n" +
			"BLOCKED are those of PENDING that wait for an earlier one of their device: of a handler with order_by device. Where they wait for\n" +
			"a dead letter (head_of_line block), they go on when that is requeued and done, or discarded: `callbackd dead list` has it.\n\n" +
			"With -o json it is one array, which scripts can rely on: fields may be added, none goes away.",
		Example: `  callbackd handler list
  callbackd handler list -o json | jq '.[] | select(.lag_seconds > 600)'`,
		Args: cobra.NoArgs,
	}
	o := output(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		answer, err := app.Handlers(cmd.Context(), c)
		if err != nil {
			return err
		}
		return e.print(*o, answer.Handlers, func(w io.Writer) { handlersTable(w, answer.Handlers) })
	}
	return c
}

func handlersTable(w io.Writer, list []app.HandlerStatus) {
	row(w, "HANDLER", "TYPE", "PENDING", "BLOCKED", "LAG", "DEAD", "BREAKER", "STATE")
	for _, h := range list {
		lag := "-"
		if !h.OldestPending.IsZero() {
			lag = age(h.LagSeconds)
		}
		breaker := dash(string(h.Breaker))
		if !h.BreakerUntil.IsZero() {
			breaker += " until " + h.BreakerUntil.UTC().Format(time.TimeOnly) + "Z"
		}
		row(w, h.Name, dash(h.Type), h.Pending, h.Blocked, lag, h.Dead, breaker, stateCell(h))
	}
}

// stateCell says what the state's word leaves open.
func stateCell(h app.HandlerStatus) string {
	text := string(h.State)
	switch {
	case h.State == app.HandlerPaused:
		text += fmt.Sprintf(" since %s, by %s", h.PausedAt.Format(time.RFC3339), h.PausedBy)
	case h.State == app.HandlerHeld:
		text += ": `callbackd inbox release --restored` lets deliveries go"
	case h.Unready != "":
		text += ": " + strings.TrimPrefix(h.Unready, "is not ready: ") // which the state's word says
	}
	return text
}

// age is a time in its two largest units.
func age(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func (e *env) handlerPause() *cobra.Command {
	c := &cobra.Command{
		Use:   "pause NAME",
		Short: "Give a handler no more deliveries until it is resumed",
		Long: "Give a handler no more deliveries until it is resumed, also after a restart. What arrives for it is stored, acknowledged, and waits.\n" +
			"A delivery that is under way goes on.",
		Example: "  callbackd handler pause events",
	}
	return e.setPaused(c, app.OpPause, (*app.Operator).Pause)
}

func (e *env) handlerResume() *cobra.Command {
	c := &cobra.Command{
		Use:     "resume NAME",
		Short:   "Give a paused handler its deliveries again",
		Long:    "Give a paused handler its deliveries again, those that wait in the order of their arrival.",
		Example: "  callbackd handler resume events",
	}
	return e.setPaused(c, app.OpResume, (*app.Operator).Resume)
}

func (e *env) setPaused(c *cobra.Command, name string, do func(*app.Operator, context.Context, app.PauseRequest) (app.PauseAnswer, error)) *cobra.Command {
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = e.completeHandlers
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := e.loadToOperate()
		if err != nil {
			return err
		}
		answer, err := app.Operate(cmd.Context(), c, e.log(), name, app.PauseRequest{Handler: args[0]}, do)
		if err != nil {
			return err
		}
		return e.print(*o, answer, func(w io.Writer) {
			became, was := "resumed", "was not paused"
			if answer.Paused {
				became, was = "paused", "is paused already"
			}
			if answer.Changed {
				row(w, became+" "+answer.Handler)
			} else {
				row(w, answer.Handler+" "+was)
			}
		})
	}
	return c
}

// completeHandlers has the shell complete the name of a configured handler.
func (e *env) completeHandlers(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := e.loadToOperate()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return c.HandlerNames(), cobra.ShellCompDirectiveNoFileComp
}
