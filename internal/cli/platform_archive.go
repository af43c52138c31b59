package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"callbackd/internal/thingspace/platform"

	"github.com/spf13/cobra"
)

func (e *env) platformArchive() *cobra.Command {
	c := &cobra.Command{
		Use:   "archive",
		Short: "List and resend what the running simulator could not deliver",
		Long: "List and resend what the running simulator sent to the last try and nobody acknowledged. The platform keeps such messages for\n" +
			"30 days, and its support resends them by RequestId. The simulator's archive is in memory, and ends with it.",
	}
	c.AddCommand(e.platformArchiveList(), e.platformArchiveResend())
	return c
}

func (e *env) platformArchiveList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the archive, the oldest message first",
		Example: `  callbackd platform archive list
  callbackd platform archive list -o json`,
		Args: cobra.NoArgs,
	}
	format, open := output(c), remote(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		list, err := r.Archive(cmd.Context())
		if err != nil {
			return err
		}
		return e.print(*format, list, func(w io.Writer) {
			row(w, "AGE", "SERVICE", "ACCOUNT", "TRIES", "REQUEST ID", "LAST FAILURE")
			for _, a := range list {
				row(w, time.Since(a.At).Round(time.Second), a.Service, a.Account, a.Tries, cmp.Or(a.RequestID, "-"), a.Failure)
			}
		})
	}
	return c
}

func (e *env) platformArchiveResend() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "resend [REQUEST_ID...]",
		Short: "Resend archived messages",
		Long: "Resend the archived messages with these RequestIds, or all: the same bytes, with counters that start anew, by the profile's rules.\n" +
			"What is acknowledged leaves the archive. The exit code is 1 if any was not, and 3 if there was none.",
		Example: `  callbackd platform archive resend 2c90bd28-ece4-42ef-9f02-7e3bd4fbff33
  callbackd platform archive resend --all`,
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().BoolVar(&all, "all", false, "resend all, those without a RequestId included")
	open := remote(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return usagef("name RequestIds, or give --all")
		}
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		selections := []platform.Selection{{All: all}}
		if !all {
			selections = names(args, func(id string) platform.Selection { return platform.Selection{RequestID: id} })
		}
		return e.resend(cmd.Context(), r, selections)
	}
	return c
}

// resend has each selection resent, the others where one fails, and prints how many were acknowledged.
func (e *env) resend(ctx context.Context, r *platform.Remote, selections []platform.Selection) error {
	total := 0
	var failures []error
	for _, what := range selections {
		acked, err := r.Resend(ctx, what)
		total += acked
		if errors.Is(err, platform.ErrNotArchived) && what.All {
			err = fmt.Errorf("%w: the archive is empty", errNotFound)
		} else if errors.Is(err, platform.ErrNotArchived) {
			err = fmt.Errorf("%w in the archive with RequestId %s", errNotFound, what.RequestID)
		} else if err != nil && !what.All {
			err = fmt.Errorf("RequestId %s: %w", what.RequestID, err)
		}
		failures = append(failures, err)
	}
	fmt.Fprintf(e.out, "%d resent and acknowledged\n", total)
	return errors.Join(failures...)
}
