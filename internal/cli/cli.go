// Package cli is the command line: it parses, calls the other packages, and prints.
//
// Exit codes are stable: 0 success, 1 failure, 2 wrong usage or configuration, 3 nothing matched, 4 the data directory is in use, 5 what
// was asked takes a restart.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"callbackd/internal/admin"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
	exitInUse    = 4
	exitRestart  = 5
)

// usageError is an error in how the program was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errNotFound is a selection that matched nothing.
var errNotFound = errors.New("nothing matched")

// errRestart is a configuration that is not wholly in force before a restart; it has been printed.
var errRestart = fmt.Errorf("a restart is needed: %w", errReported)

// errReported is a failure that has been printed already.
var errReported = errors.New("reported")

// env is what the commands share.
type env struct {
	in       io.Reader
	out, err io.Writer
	config   string // --config
	hangups  func() <-chan os.Signal
}

// Process is what a command runs in.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	// Hangups takes SIGHUP, which else ends the process; nil: it cannot. Only a command that has a use for it calls it.
	Hangups func() <-chan os.Signal
}

// Main runs one command and returns the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return Process{In: stdin, Out: stdout, Err: stderr}.Main(ctx, args)
}

// Main runs one command and returns the exit code.
func (p Process) Main(ctx context.Context, args []string) int {
	e := &env{in: p.In, out: p.Out, err: p.Err, hangups: p.Hangups}
	root := e.root()
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetErr(p.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintln(p.Err, "callbackd:", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage *usageError
	var invalid *config.Invalid
	var answered *admin.Error
	_ = errors.As(err, &answered)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &invalid), answered != nil && answered.Code == admin.Invalid:
		return exitUsage
	case errors.Is(err, errNotFound), errors.Is(err, inbox.ErrNotFound), answered != nil && answered.Code == admin.NotFound:
		return exitNotFound
	case errors.Is(err, sqlite.ErrInUse):
		return exitInUse
	case errors.Is(err, errRestart):
		return exitRestart
	}
	return exitFailure
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "callbackd",
		Short: "Receive Verizon ThingSpace SOAP callbacks, keep them, and hand them on",
		Long: "callbackd receives Verizon ThingSpace SOAP callbacks: it checks each one, stores it durably before it acknowledges,\n" +
			"and hands it to your handlers.\n\n" +
			"Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 nothing matched, 4 data_dir is in use,\n" +
			"5 a restart is needed.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVar(&e.config, "config", "",
		"configuration file (default $CALLBACKD_CONFIG, then "+config.SystemFile+")")
	root.AddCommand(e.serve(), e.demo(), e.check(), e.send(), e.platform(), e.inbox(), e.dead(), e.handler(), e.registrations(), e.firewall(), e.doctor(), e.reload(), e.logLevel(), e.version())
	root.SetOut(e.out) // before the completion takes it
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(help(root))
	checkArgs(root)
	return root
}

// help is the command of that name. The library's own takes any topic for success.
func help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Print the help of a command",
		Example: "  callbackd help inbox replay",
		Args:    cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no command %q; see `callbackd --help`", strings.Join(args, " "))
			}
			return c.Help()
		},
	}
}

// checkArgs makes wrong arguments a usage error, and a command group without a command as well.
func checkArgs(c *cobra.Command) {
	if c.Args != nil {
		validate := c.Args
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := validate(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.Args = cobra.ArbitraryArgs
		c.SuggestionsMinimumDistance = 2
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				begins := slices.IndexFunc(near, func(name string) bool { return strings.HasPrefix(name, args[0]) })
				hint = fmt.Sprintf("did you mean %q?", near[max(begins, 0)])
			} else if c := named(cmd.Root(), args[0]); c != nil {
				hint = fmt.Sprintf("see `%s --help`", c.CommandPath())
			}
			return usagef("unknown command %q; %s", args[0], hint)
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}

// named finds a command of a group by its name alone.
func named(c *cobra.Command, name string) *cobra.Command {
	if c.Name() == name && !c.HasSubCommands() {
		return c
	}
	for _, sub := range c.Commands() {
		if found := named(sub, name); found != nil {
			return found
		}
	}
	return nil
}

// load reads the configuration. Warnings are `check`'s to print.
func (e *env) load() (*config.Config, config.Problems, error) {
	c, problems, err := config.Load(config.Path(e.config), builtin.Types())
	var invalid *config.Invalid
	if err != nil && !errors.As(err, &invalid) {
		err = &usageError{err}
	}
	return c, problems, err
}

// loadToOperate reads the configuration for a command that works on the inbox, for which callbackd's secrets, certificates and environment are
// not needed: who runs the command need not have them.
func (e *env) loadToOperate() (*config.Config, error) {
	c, _, err := e.load()
	if invalid, ok := errors.AsType[*config.Invalid](err); ok && invalid.Readable != nil {
		return invalid.Readable, nil
	}
	return c, err
}
