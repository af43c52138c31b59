package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
)

// format is the flag -o.
type format string

const (
	table  format = "table"
	asJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "table|json" }

func (f *format) Set(s string) error {
	if s != string(table) && s != string(asJSON) {
		return fmt.Errorf("must be table or json")
	}
	*f = format(s)
	return nil
}

// output adds the flag -o to a command.
func output(c *cobra.Command) *format {
	f := table
	c.Flags().VarP(&f, "output", "o", "output format")
	return &f
}

// print writes v as JSON, or what asTable writes.
func (e *env) print(f format, v any, asTable func(w io.Writer)) error {
	if f == asJSON {
		encoder := json.NewEncoder(e.out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	w := tabwriter.NewWriter(e.out, 0, 8, 2, ' ', 0)
	asTable(w)
	return w.Flush()
}

// array writes one JSON array of what each hands over, as it comes: however long it is, and if each fails, of what came before.
func (e *env) array(each func(element func(any) error) error) error {
	separator := "["
	err := each(func(v any) error {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.out, "%s\n  %s", separator, text)
		separator = ","
		return err
	})
	end := "\n]"
	if separator == "[" {
		end = "[]"
	}
	_, endErr := fmt.Fprintln(e.out, end)
	return errors.Join(err, endErr)
}

// row writes one line of a table. What comes from outside cannot break out of its cell.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, fmt.Sprint(c))
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}
