package cli

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"callbackd/internal/app"
	"callbackd/internal/config"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func (e *env) serve() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Receive callbacks",
		Long: "Receive callbacks until SIGTERM or SIGINT, then stop in order: requests under way are finished, deliveries get their grace.\n" +
			"The configuration is read again on SIGHUP, on `callbackd reload`, and when one of its files changes.\n" +
			"The log goes to standard error. It is an error (exit code 4) if another callbackd works on the same data_dir.",
		Example: `  callbackd serve --config /etc/callbackd/callbackd.yaml
  CALLBACKD_CONFIG=callbackd.yaml callbackd serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var hangups <-chan os.Signal
			if e.hangups != nil {
				hangups = e.hangups() // before anything that takes time: until then a SIGHUP ends the process
			}
			c, problems, err := e.load()
			if err != nil {
				return err
			}
			log, level, err := app.NewLevelledLogger(c.Log, e.err)
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }() // a terminal cannot be synced
			for _, p := range problems {
				p.Severity = config.Warning // none keeps it from starting
				log.Warn("configuration", zap.String("problem", p.String()))
			}
			o := app.Options{Config: c, Log: log, Level: level, Version: buildVersion(), Load: e.load, Sockets: activation.Files(true), Hangups: hangups}
			a, err := app.New(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
}

func (e *env) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  callbackd version`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(e.out, "callbackd %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	version := "devel"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			version = "devel-" + s.Value[:12]
		}
	}
	return version
}
