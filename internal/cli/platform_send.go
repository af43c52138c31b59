package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"

	"github.com/google/uuid"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// ordering is one run of `platform send`.
type ordering struct {
	*env
	platform.Order
	services []string
	duration time.Duration
	file     string
	format   *format
	open     func() (*platform.Remote, error)
	last     platform.Progress
	at       func() string // what the other commands need to find the simulator too
}

func (e *env) platformSend() *cobra.Command {
	o := &ordering{env: e}
	c := &cobra.Command{
		Use:   "send",
		Short: "Have the running simulator send callbacks, and report what came of them",
		Long: "Have the running simulator send callbacks to the listeners that are registered with it, by its profile's rules, and report what\n" +
			"came of them: generated ones, of the services in turn, or one message as it is but for the credentials.\n\n" +
			"With --rate the messages are due on a schedule, whatever the answers do, and latencies count from the moment that a message was\n" +
			"due, so that a listener that stalls shows. Without, each connection sends a message when the one before has come to its end.\n\n" +
			"Lost is what was not answered in the last try, or not even taken. What is refused or lost goes to the archive. The exit code is 1\n" +
			"if any message was not acknowledged. Ctrl-C stops it; the report comes when the answers did that are on their way.",
		Example: `  callbackd platform send
  callbackd platform send --service DeviceUsage,PromoChange --count 1000
  callbackd platform send --rate 200 --duration 1m --poisson
  callbackd platform send --service DeviceService --devices 2000
  callbackd platform send --sample ResumeTrackingNotification
  callbackd platform send --service DeviceUsage --file message.xml --count 50`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := c.Flags()
	flags.StringSliceVar(&o.services, "service", nil, "services to send for, in turn (default: all that are registered)")
	flags.StringVar(&o.Account, "account", "", "the account whose listeners get it (default: the first)")
	flags.IntVar(&o.Count, "count", 0, "stop after `n` messages (default: one for each service)")
	flags.DurationVar(&o.duration, "duration", 0, "stop after this time")
	flags.IntVar(&o.Devices, "devices", 0, fmt.Sprintf("devices that each request is for, up to %d: a message for each, or one with all (default: a few)", platform.MaxDevices))
	flags.Float64Var(&o.Rate, "rate", 0, "messages that are due in a second (default: as fast as answers come)")
	flags.BoolVar(&o.Poisson, "poisson", false, "space messages as independent senders would, and not evenly")
	flags.IntVar(&o.Connections, "connections", 0, "messages on their way at once (default: 256 with --rate, 16 without)")
	flags.Uint64Var(&o.Seed, "seed", 0, "seed of the messages (default: random)")
	flags.StringVar(&o.Sample, "sample", "", "send a published sample: "+strings.Join(sampleNames(), " or "))
	flags.StringVar(&o.file, "file", "", "send the message in this file; - is standard input")
	complete(c, "service", serviceNames())
	complete(c, "sample", sampleNames())
	o.format, o.open = output(c), remote(c)
	o.at = func() string {
		if at := c.Flag("platform"); at.Changed {
			return " --platform " + at.Value.String()
		}
		return ""
	}
	return c
}

func (o *ordering) run(ctx context.Context) error {
	if err := o.complete(); err != nil {
		return err
	}
	r, err := o.open()
	if err != nil {
		return err
	}
	defer r.Close()
	progress, clear := o.progress()
	report, err := r.Send(ctx, o.Order, progress)
	clear()
	switch none := len(report.Services) == 0; {
	case none && ctx.Err() != nil:
		fmt.Fprintf(o.err, "stopped; after %.0f s: %s\n", o.last.Seconds, counts(o.last))
		return errReported
	case none:
		return err
	case ctx.Err() != nil:
		err = errors.New("stopped before the order's end")
	}
	err = errors.Join(err, o.print(*o.format, report, func(w io.Writer) { reportTable(w, report) }))
	if *o.format == table {
		o.remarks(report)
	}
	if err == nil && report.Total.Acked < report.Total.Offered {
		return errReported
	}
	return err
}

// complete checks the flags, as far as the simulator does not, and reads the file.
func (o *ordering) complete() error {
	for _, s := range o.services {
		if !slices.Contains(serviceNames(), s) {
			return usagef("--service %q is none of %s", s, strings.Join(serviceNames(), ", "))
		}
		o.Services = append(o.Services, callback.Service(s))
	}
	switch {
	case o.Devices < 0 || o.Devices > platform.MaxDevices:
		return usagef("--devices is not within 0 and %d", platform.MaxDevices)
	case o.Devices > 0 && (o.Sample != "" || o.file != ""):
		return usagef("--devices is about generated messages: leave it out with --sample and --file")
	case o.Count < 0, o.duration < 0, o.Rate < 0, o.Connections < 0:
		return usagef("--count, --duration, --rate and --connections cannot be negative")
	case math.IsNaN(o.Rate), math.IsInf(o.Rate, 0):
		return usagef("--rate has to be a number")
	case o.Sample != "" && !slices.Contains(sampleNames(), o.Sample):
		return usagef("--sample %q is none of %s", o.Sample, strings.Join(sampleNames(), ", "))
	case o.Sample != "" && o.file != "":
		return usagef("give either --sample or --file")
	case o.file != "" && len(o.Services) != 1:
		return usagef("--file holds a message: name the one service that it is for with --service")
	case o.Poisson && o.Rate == 0:
		return usagef("--poisson is about the schedule of --rate")
	}
	o.Seconds = o.duration.Seconds()
	if o.Seed == 0 {
		o.Seed = uint64(uuid.New().ID())
	}
	if o.file == "" {
		return nil
	}
	in := io.NopCloser(o.in)
	if o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return err
		}
		in = f
	}
	defer in.Close()
	message, err := readMessage(in)
	if err != nil {
		return fmt.Errorf("read %s: %w", o.file, err)
	}
	o.Message = string(message)
	return nil
}

// progress returns what tells of the progress, on a terminal in one line that is written over, and what takes the line away.
func (o *ordering) progress() (tell func(platform.Progress), clear func()) {
	f, ok := o.err.(*os.File)
	terminal := ok && isatty.IsTerminal(f.Fd())
	const back = "\r\x1b[K"
	tell = func(p platform.Progress) {
		if o.last = p; terminal {
			fmt.Fprintf(o.err, "%s%.0f s: %s", back, p.Seconds, counts(p))
		}
	}
	return tell, func() {
		if terminal && o.last.Seconds > 0 {
			fmt.Fprint(o.err, back)
		}
	}
}

// counts tells of the messages in one short line.
func counts(p platform.Progress) string {
	of := ""
	if p.Of > 0 {
		of = fmt.Sprintf(" of %d", p.Of)
	}
	text := fmt.Sprintf("%d%s, %d acknowledged, %d under way", p.Offered, of, p.Acked, p.Pending)
	for _, bad := range []struct {
		n    int
		what string
	}{{p.Refused, "refused"}, {p.Lost, "lost"}, {p.Unregistered, "without a listener"}, {p.Unsent, "not sent"}} {
		if bad.n > 0 {
			text += fmt.Sprintf(", %d %s", bad.n, bad.what)
		}
	}
	return text
}

func reportTable(w io.Writer, r platform.Report) {
	row(w, "SERVICE", "OFFERED", "SENT", "ACKED", "REFUSED", "LOST", "UNREGISTERED", "UNSENT", "REPEATS", "EXTRA", "P50", "P90", "P99", "P99.9", "MAX")
	for _, s := range append(slices.Clone(r.Services), r.Total) {
		name := s.Service
		if name == "" {
			name = "total"
		}
		cells := []any{name, s.Offered, s.Sent, s.Acked, s.Refused, s.Lost, s.Unregistered, s.Unsent, s.Repeats, s.Extra}
		for _, ms := range []float64{s.P50, s.P90, s.P99, s.P999, s.Max} {
			cells = append(cells, milliseconds(ms, s.Acked))
		}
		row(w, cells...)
	}
}

func milliseconds(ms float64, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// remarks are what the table does not tell.
func (o *ordering) remarks(r platform.Report) {
	fmt.Fprintf(o.out, "\nprofile %s, ack %s, seed %d, up to %d connections, %.1f s\n", r.Profile, r.Ack, r.Seed, r.Connections, r.Seconds)
	if r.ClosedLoop {
		fmt.Fprintf(o.out, "%.1f messages in a second, as fast as answers came: latency is counted from the sending, and hides what a listener that\n"+
			"stalls would have missed. --rate shows it.\n", r.Rate)
	} else {
		fmt.Fprintf(o.out, "%.1f messages in a second, of %.1f asked: latency is counted from the moment that a message was due\n", r.Rate, r.AskedRate)
	}
	if r.Late > 0 {
		fmt.Fprintf(o.out, "%d went out more than 100 ms late, for all connections were busy, or this machine was: see --connections\n", r.Late)
	}
	if n := r.Total.Unregistered; n > 0 {
		fmt.Fprintf(o.out, "%d had no listener: `callbackd platform status%s` lists those that there are\n", n, o.at())
	}
	if n := r.Total.Stopped; n > 0 {
		fmt.Fprintf(o.out, "%d were not acknowledged yet, and would have been tried again\n", n)
	}
	if n := r.Total.Archived; n > 0 {
		fmt.Fprintf(o.out, "%d went to the archive: `callbackd platform archive list%s`, and `resend`\n", n, o.at())
	}
	if n := r.Total.Queued; n > 0 {
		fmt.Fprintf(o.out, "%d texts of devices wait for `callbackd registrations start-sms`\n", n)
	}
}
