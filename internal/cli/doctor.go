package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"callbackd/internal/config"
	"callbackd/internal/doctor"

	"github.com/spf13/cobra"
)

const doctorLong = `Examine the configuration, this machine and the callbackd that runs, and say what is wrong and what to do about it. Nothing is changed, and
a running callbackd is not held up. Run it as the user that owns data_dir.

  ok       as it should be
  skipped  not examined, and why
  warn     it works, or may, and somebody should look
  fail     callbacks are lost or refused, or will be

Each public_url is asked for its WSDL from here: its name, its address, its certificate and chain, TLS 1.2. That it is reached from here is
no proof that Verizon reaches it, nor the reverse. Nobody else is asked over the network, but with --platform the platform: that is a
log-in, and five refused ones lock the API user.

The exit code is 0 without a fail, 1 with one, and 2 if the configuration cannot be used.`

func (e *env) doctor() *cobra.Command {
	var offline, platform, quiet bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the set-up, and say what is wrong and what to do",
		Long:  doctorLong,
		Example: `  callbackd doctor
  callbackd doctor --quiet
  callbackd doctor --platform -o json
  sudo -u callbackd callbackd doctor --offline`,
		Args: cobra.NoArgs,
	}
	o := output(c)
	c.Flags().BoolVar(&offline, "offline", false, "ask nobody over the network")
	c.Flags().BoolVar(&platform, "platform", false, "log in to the platform, and compare what it holds and its clock")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print warn and fail only")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if offline && platform {
			return usagef("--platform asks over the network, and --offline is not to: give one of them")
		}
		return e.runDoctor(cmd.Context(), doctor.Options{Offline: offline, Platform: platform, Version: buildVersion()}, quiet, *o)
	}
	return c
}

func (e *env) runDoctor(ctx context.Context, o doctor.Options, quiet bool, f format) (err error) {
	o.Config, o.Problems, err = e.load()
	if invalid, ok := errors.AsType[*config.Invalid](err); ok && invalid.Readable != nil && !o.Platform { // a log-in takes a password
		o.Config, err = invalid.Readable, nil
	}
	if err != nil {
		return err
	}
	count := make(map[doctor.Level]int)
	findings := []doctor.Finding{}
	doctor.Examine(ctx, o, func(found doctor.Finding) {
		count[found.Level]++
		if quiet && found.Level != doctor.Warn && found.Level != doctor.Fail {
			return
		}
		findings = append(findings, found)
		if f == table {
			e.tellFinding(found)
		}
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	if f == asJSON {
		if err := e.print(asJSON, findings, nil); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.out, "%d ok, %d skipped, %d warn, %d fail\n", count[doctor.OK], count[doctor.Skipped], count[doctor.Warn], count[doctor.Fail])
	}
	if count[doctor.Fail] > 0 {
		return errReported
	}
	return nil
}

// tellFinding prints a finding at once, for some take their time.
func (e *env) tellFinding(f doctor.Finding) {
	what := f.Check
	if f.Subject != "" {
		what += ": " + f.Subject
	}
	fmt.Fprintf(e.out, "%-7s  %s: %s\n", f.Level, printable(what), oneLine(f.Found))
	if f.Advice != "" {
		fmt.Fprintf(e.out, "         -> %s\n", oneLine(f.Advice))
	}
}

func oneLine(text string) string { return strings.ReplaceAll(printable(text), "\n", "; ") }
