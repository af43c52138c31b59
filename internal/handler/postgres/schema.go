package postgres

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

func quoted(name ...string) string { return pgx.Identifier(name).Sanitize() }

// idColumn is the name of the column that takes the id.
func (c *Config) idColumn() string {
	for _, column := range c.Columns {
		if column.Path == idPath {
			return column.Name
		}
	}
	return ""
}

// Schema is the statement that creates the table.
func (c *Config) Schema() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", quoted(c.identifier()...))
	for i, column := range c.Columns {
		fmt.Fprintf(&b, "    %s %s", quoted(column.Name), column.sqlType())
		if column.Path == idPath {
			b.WriteString(" PRIMARY KEY")
		}
		if i < len(c.Columns)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString(");\n")
	return b.String()
}

// Grants are the statements that give the user of the DSN what it needs; empty without a DSN.
func (c *Config) Grants() string {
	d, err := parseDSN(c.DSN)
	if err != nil {
		return ""
	}
	grants := ""
	if name := c.identifier(); len(name) == 2 {
		grants = fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\n", quoted(name[0]), quoted(d.user))
	}
	return grants + fmt.Sprintf("GRANT INSERT, SELECT (%s) ON %s TO %s;\n", quoted(c.idColumn()), quoted(c.identifier()...), quoted(d.user))
}

// uniqueIndex is the statement that lets a delivery be known again.
func (c *Config) uniqueIndex() string {
	return fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s);", quoted(c.identifier()...), quoted(c.idColumn()))
}

// insertion is the statement that inserts values, unless the id is known.
func (c *Config) insertion(value func(i int) string) string {
	var names, values []string
	for i, column := range c.Columns {
		names, values = append(names, quoted(column.Name)), append(values, value(i))
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) DO NOTHING",
		quoted(c.identifier()...), strings.Join(names, ", "), strings.Join(values, ", "), quoted(c.idColumn()))
}
