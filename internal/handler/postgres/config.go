package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"callbackd/internal/handler"

	"github.com/jackc/pgx/v5"
)

// Type is the handler type "postgres".
func Type() handler.Type {
	return handler.Type{Name: "postgres", Concurrency: connections, Config: func() handler.Config { return Default() }}
}

// connections is the default for how many there are.
const connections = 4

// Default is the configuration that lacks a database alone.
func Default() *Config {
	return &Config{Table: "callbacks", Connections: connections, StatementTimeout: 20 * time.Second, checkEvery: 15 * time.Second, Columns: []Column{
		{Name: "id", Path: "id"},
		{Name: "received_at", Path: "time", Type: timestamptz},
		{Name: "service", Path: "service"},
		{Name: "account", Path: "account"},
		{Name: "kind", Path: "data.kind"},
		{Name: "subject", Path: "subject"},
		{Name: "request_id", Path: "requestid"},
		{Name: "event", Path: wholeEvent, Type: jsonb},
	}}
}

// Config of a postgres handler.
type Config struct {
	// DSN is where the database is, as a URL, without a password.
	DSN string `yaml:"dsn"`
	// PasswordFile holds the password. It is read for each connection.
	PasswordFile string `yaml:"password_file,omitempty"`
	// Table is the table to insert into, or SCHEMA.TABLE.
	Table string `yaml:"table"`
	// Columns are the table's columns, and what of the event goes there. One of them takes the id.
	Columns []Column `yaml:"columns"`
	// Connections is how many there are at most.
	Connections int `yaml:"connections"`
	// StatementTimeout bounds a statement in the server; 0: the server's own setting holds.
	StatementTimeout time.Duration `yaml:"statement_timeout"`

	checkEvery time.Duration // while the handler is not ready
}

// Column is a column of the table.
type Column struct {
	// Name is the column's, in the database's own letter case.
	Name string `yaml:"name"`
	// Path leads to a member of the event, such as data.usage.bytesUsed; "." is all of it.
	Path string `yaml:"path"`
	// Type is the column's; default: text.
	Type columnType `yaml:"type,omitempty"`
}

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string {
	return map[string]*string{"password_file": &c.PasswordFile}
}

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	const mostConnections = 1024
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if _, err := parseDSN(c.DSN); err != nil {
		bad("dsn: %w", err)
	}
	if err := validName(c.identifier()...); err != nil {
		bad("table: %w", err)
	}
	if c.Connections < 1 || c.Connections > mostConnections {
		bad("connections: must be 1 to %d; %d is the default", mostConnections, connections)
	}
	if c.StatementTimeout != 0 && c.StatementTimeout < time.Millisecond {
		bad("statement_timeout: must be 1ms at least, or 0s for the server's own; 20s is the default")
	}
	return append(problems, c.validateColumns()...)
}

// Warnings implements [handler.Warner].
func (c *Config) Warnings() []error {
	if d, err := parseDSN(c.DSN); err == nil && d.warning() != "" {
		return []error{errors.New("dsn: " + d.warning())}
	}
	return nil
}

func (c *Config) validateColumns() (problems []error) {
	const most = 1000 // a table of PostgreSQL has 1600 at the very most
	if len(c.Columns) > most {
		return []error{fmt.Errorf("columns: %d are more than %d", len(c.Columns), most)}
	}
	event, err := eventShape()
	if err != nil {
		return []error{fmt.Errorf("columns: %w", err)}
	}
	ids := 0
	seen := make(map[string]bool)
	for i, column := range c.Columns {
		bad := func(key string, err error) { problems = append(problems, fmt.Errorf("columns[%d]%s: %w", i, key, err)) }
		if err := validName(column.Name); err != nil {
			bad(".name", err)
		} else if seen[column.Name] {
			bad(".name", fmt.Errorf("%q stands twice", column.Name))
		}
		seen[column.Name] = true
		if column.Path == idPath {
			ids++
		}
		if key, err := column.validate(event); err != nil {
			bad(key, err)
		}
	}
	if ids != 1 {
		problems = append(problems, fmt.Errorf("columns: %d have the path id, and one has to: "+
			"a delivery that is made again is known by it, so write {name: id, path: id}", ids))
	}
	return problems
}

// validate checks path and type. It names the key that it is about.
func (c Column) validate(event *shape) (key string, err error) {
	if !slices.Contains(types(), c.sqlType()) {
		return ".type", fmt.Errorf("%q is none of %s", c.Type, strings.Join(typeNames(), ", "))
	}
	if c.Path == "" {
		return ".path", errors.New("missing: a member of the event such as data.usage.bytesUsed, or . for all of it")
	}
	what, err := event.describe(c.Path)
	switch {
	case err != nil:
		return ".path", err
	case c.Path == idPath && c.sqlType() != text:
		return ".type", errors.New("the id is a text")
	case (what == "object" || what == "array") && c.sqlType() != jsonb:
		return ".type", fmt.Errorf("%s leads to an %s, which jsonb alone takes: write type: jsonb, or go on to a member of it", c.Path, what)
	}
	return "", nil
}

// validName checks the names of a schema, table or column, which SQL gets in quotes.
func validName(names ...string) error {
	const longest = 63 // bytes; the server would cut it off
	for _, name := range names {
		switch {
		case name == "":
			return errors.New("a name is missing")
		case len(name) > longest:
			return fmt.Errorf("%.20q... has more than the %d bytes of a name", name, longest)
		case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return fmt.Errorf("%q has a control character", name)
		}
	}
	if len(names) > 2 {
		return errors.New("has more than one dot: write TABLE or SCHEMA.TABLE")
	}
	return nil
}

// identifier is the table's name in its parts.
func (c *Config) identifier() pgx.Identifier { return strings.Split(c.Table, ".") }

// Open implements [handler.Config]. The database need not be there yet.
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return open(c, env)
}
