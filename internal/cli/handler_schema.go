package cli

import (
	"callbackd/schemas"

	"github.com/spf13/cobra"
)

func (e *env) handlerSchema() *cobra.Command {
	c := &cobra.Command{
		Use:   "schema",
		Short: "Print the schemas of what handlers get and write",
		Long:  "Print the schemas of what handlers get and write, for whatever stands at the other end.",
	}
	c.AddCommand(e.handlerSchemaEvent(), e.handlerSchemaPostgres())
	return c
}

func (e *env) handlerSchemaEvent() *cobra.Command {
	return &cobra.Command{
		Use:   "event",
		Short: "Print the JSON Schema of an event",
		Long: "Print the JSON Schema (draft 2020-12) of the event that handlers get: CloudEvents 1.0 attributes, and the callback as data. Members are\n" +
			"added to it, and none is removed or changes its type.",
		Example: "  callbackd handler schema event > event.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := schemas.FS.ReadFile(schemas.Event)
			if err != nil {
				return err
			}
			_, err = e.out.Write(text)
			return err
		},
	}
}
