package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"callbackd/internal/config"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

const checkLong = `Check the configuration and print every problem with its file, line and column, then the configuration in effect, defaults
included and secrets masked. Warnings leave the exit code 0; an error, or a URL that the platform would not register, makes it 2.
A handler that is configured no more while the inbox holds deliveries to it draws a warning: they are buried at the next start.

The least that a configuration has to say:

  data_dir: /var/lib/callbackd
  network: {mode: observe}
  credentials: [{label: main, username: acme, password_file: /run/secrets/callback}]
  services: {DeviceUsage: {}}
  handlers: {audit: {type: log}}
  routes: [{handlers: [audit]}]`

func (e *env) check() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and print what is in effect",
		Long:  checkLong,
		Example: `  callbackd check --config callbackd.yaml
  callbackd check --quiet && systemctl restart callbackd`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.runCheck(cmd.Context(), quiet) },
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print problems only")
	return c
}

func (e *env) runCheck(ctx context.Context, quiet bool) error {
	c, problems, err := e.load()
	for _, p := range problems {
		fmt.Fprintln(e.err, p)
	}
	if err != nil {
		if len(problems) > 0 {
			return &usageError{errReported}
		}
		return err
	}
	if err := e.warnOfRemoved(ctx, c); err != nil {
		// Whoever checks a configuration need not be allowed to look into the inbox.
		fmt.Fprintf(e.err, "%s: warning: data_dir: cannot tell whether deliveries wait for handlers that are configured no more: %s\n", c.Place("data_dir"), err)
	}
	if !quiet {
		text, err := c.Effective()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(e.out, text); err != nil {
			return err
		}
	}
	if problems.Worst() > config.Warning {
		return &usageError{errReported}
	}
	return nil
}

// warnOfRemoved tells of deliveries to handlers that are configured no more.
func (e *env) warnOfRemoved(ctx context.Context, c *config.Config) error {
	r, err := sqlite.OpenReader(ctx, c.DataDir)
	if errors.Is(err, inbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	stats, err := r.Stats(ctx)
	if err != nil {
		return err
	}
	for _, name := range sorted(stats.Pending) {
		if n := stats.Pending[name]; n > 0 && !slices.Contains(c.HandlerNames(), name) {
			fmt.Fprintf(e.err, "%s: warning: handlers: %d deliveries wait for handler %q, which is configured no more: the next start buries them as handler_removed\n",
				c.Place("handlers"), n, name)
		}
	}
	return nil
}
