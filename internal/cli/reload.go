package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"callbackd/internal/app"
	"callbackd/internal/config"

	"github.com/spf13/cobra"
)

func (e *env) reload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the running callbackd read its configuration again",
		Long: "Have the callbackd that runs on data_dir read its configuration again, with the files that it names, and print what came of it.\n" +
			"All that can be replaced while requests are served is put in force: credentials, certificates, the network gate, the services' paths and\n" +
			"validation, routes, the level of the log. A configuration with errors is rejected, and the one before stays in force (exit code 2).\n" +
			"Keys that take a restart are named (exit code 5). callbackd does the same by itself when a file changes, and on SIGHUP.",
		Example: `  callbackd reload
  callbackd reload || test $? -eq 5`,
		Args: cobra.NoArgs,
	}
	o := output(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var answer app.ReloadAnswer
		if err := e.ask(cmd.Context(), app.OpReload, app.ReloadRequest{}, &answer); err != nil {
			return err
		}
		for _, problem := range answer.Problems {
			fmt.Fprintln(e.err, problem)
		}
		if err := e.print(*o, answer, func(w io.Writer) { reloadTable(w, answer) }); err != nil {
			return err
		}
		switch {
		case answer.Result == app.ReloadRejected:
			return &usageError{errReported}
		case len(answer.RestartNeeded) > 0:
			return errRestart
		}
		return nil
	}
	return c
}

func reloadTable(w io.Writer, answer app.ReloadAnswer) {
	switch answer.Result {
	case app.ReloadRejected:
		row(w, "rejected: the configuration before stays in force")
	case app.ReloadUnchanged:
		row(w, "unchanged")
	default:
		row(w, "applied: "+strings.Join(answer.Applied, ", "))
	}
	if len(answer.RestartNeeded) > 0 {
		row(w, "a restart is needed for: "+strings.Join(answer.RestartNeeded, ", "))
	}
}

func (e *env) logLevel() *cobra.Command {
	levels := []string{"debug", "info", "warn", "error"}
	c := &cobra.Command{
		Use:   "log-level [debug|info|warn|error]",
		Short: "Set the level of the running callbackd's log for a while, or print it",
		Long: "Set the level of the log of the callbackd that runs on data_dir, until its configuration is read again or it is restarted.\n" +
			"Without a level, print the one in force.",
		Example: `  callbackd log-level debug
  callbackd log-level`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: levels,
	}
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var request app.LogLevelRequest
		if len(args) > 0 {
			request.Level = args[0]
		}
		var answer app.LogLevelAnswer
		if err := e.ask(cmd.Context(), app.OpLogLevel, request, &answer); err != nil {
			return err
		}
		return e.print(*o, answer, func(w io.Writer) {
			if answer.Level == answer.Configured {
				row(w, answer.Level)
			} else {
				row(w, fmt.Sprintf("%s, until the configuration is read again, which says %s", answer.Level, answer.Configured))
			}
		})
	}
	return c
}

// ask asks the callbackd that runs. For that, no more of the configuration is needed than where it runs: what else is wrong with it, as it is
// now or where it is read without callbackd's environment, is for the answer to say.
func (e *env) ask(ctx context.Context, name string, request, answer any) error {
	c, problems, err := e.load()
	var dir string
	if invalid, ok := errors.AsType[*config.Invalid](err); ok && invalid.DataDir != "" {
		dir = invalid.DataDir
	} else if err != nil {
		return err
	} else {
		dir = c.DataDir
	}
	running, askErr := app.Ask(ctx, dir, name, request, answer)
	switch {
	case running:
		return askErr
	case err != nil:
		for _, p := range problems {
			fmt.Fprintln(e.err, p)
		}
		return &usageError{fmt.Errorf("and no callbackd runs on %s, to read it", dir)}
	}
	return fmt.Errorf("no callbackd runs on %s: `callbackd serve` starts one, which reads the configuration as it is", dir)
}
