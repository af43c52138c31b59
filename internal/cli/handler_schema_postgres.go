package cli

import (
	"fmt"
	"strings"

	"callbackd/internal/config"
	"callbackd/internal/handler/postgres"

	"github.com/spf13/cobra"
)

func (e *env) handlerSchemaPostgres() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "postgres",
		Short: "Print the statement that creates a table for a postgres handler",
		Long: "Print the SQL that creates the table which a handler of type postgres inserts into: that of the default columns, or with --handler that of\n" +
			"one in the configuration, and the privileges that its user needs. It touches no database: look at it, and give it to psql.",
		Example: "  callbackd handler schema postgres\n" +
			"  callbackd handler schema postgres --config callbackd.yaml --handler warehouse | psql app",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&name, "handler", "", "the handler, by its name in the configuration")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		table := postgres.Default()
		if name == "" && cmd.Flags().Changed("config") {
			return usagef("name the handler of the configuration with --handler")
		}
		if name != "" {
			c, _, err := e.load()
			if err != nil {
				return err
			}
			if table, err = postgresHandler(c, name); err != nil {
				return &usageError{err}
			}
		}
		_, err := fmt.Fprint(e.out, table.Schema()+table.Grants())
		return err
	}
	return c
}

// postgresHandler is the configuration of a handler of that type.
func postgresHandler(c *config.Config, name string) (*postgres.Config, error) {
	var names []string
	for _, other := range c.HandlerNames() {
		table, ok := c.Handlers[other].Config.(*postgres.Config)
		if ok && other == name {
			return table, nil
		}
		if ok {
			names = append(names, other)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the configuration has no handler of type postgres, and so none named %q", name)
	}
	return nil, fmt.Errorf("no handler of type postgres is named %q; there is %s", name, strings.Join(names, ", "))
}
