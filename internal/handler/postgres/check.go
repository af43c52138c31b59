package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// check looks at the table unless it is known to be fit. Its error says which statement mends it.
func (t *table) check(ctx context.Context) error {
	if t.isFit() {
		return nil
	}
	select {
	case t.checking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.checking }()
	if t.isFit() {
		return nil
	}
	err := t.look(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("check table: no answer in time: %w", ctx.Err())
	}
	if !errors.Is(err, context.Canceled) { // which tells nothing of the table
		t.note(err)
	}
	return err
}

// look compares the table with the configuration, and has the server plan an insertion, which tells of privileges and of what is unique. No value
// is part of it, so the server's own words may be shown.
func (t *table) look(ctx context.Context) error {
	columns, err := t.catalogue(ctx)
	if err == nil {
		err = t.compare(columns)
	}
	if err == nil {
		err = t.deferrable(ctx)
	}
	if err == nil {
		_, err = t.pool.Exec(ctx, "EXPLAIN "+t.c.insertion(func(int) string { return "NULL" }))
	}
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &pg):
		var found *misfit
		if errors.As(err, &found) {
			return found
		}
		return errors.New("check table: " + describeConnection(err))
	}
	if pg.Code == readOnly || isConnecting(err) {
		t.pool.Reset() // a setting of the role, or another server behind the name, is for new connections
	}
	return errors.New("check table " + quoted(t.c.identifier()...) + ": " + oneLine(err) + t.advice(pg.Code))
}

// advice is what mends an error of the server.
func (t *table) advice(code string) string {
	switch code {
	case noArbiter:
		return ": nothing makes the column unique by which a delivery is known again: " + t.c.uniqueIndex()
	case wrongPassword, noLogin:
		return ": see to the user in dsn, its password in password_file, and pg_hba.conf of the server"
	case privilege:
		return ": let the user in: " + oneLine(errors.New(t.c.Grants()))
	}
	return ""
}

// misfit is a difference between the table and the configuration.
type misfit struct{ text string }

func (m *misfit) Error() string { return m.text }

// found is a column as the table has it.
type found struct {
	Name, Base, Shown   string // Base is the type's name in the catalogue
	NotNull, HasDefault bool
}

const catalogueQuery = `SELECT a.attname::text AS name, coalesce(b.typname, t.typname)::text AS base, format_type(a.atttypid, a.atttypmod) AS shown,
	a.attnotnull AS not_null, (a.atthasdef OR a.attidentity <> '') AS has_default
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`

// catalogue lists the table's columns.
func (t *table) catalogue(ctx context.Context) ([]found, error) {
	var isReadOnly string
	if err := t.pool.QueryRow(ctx, "SHOW transaction_read_only").Scan(&isReadOnly); err != nil {
		return nil, err
	}
	if isReadOnly == "on" {
		t.pool.Reset()
		return nil, &misfit{"the database is read only, as a standby is: name the primary in dsn, or all of them with target_session_attrs=read-write"}
	}
	rows, err := t.pool.Query(ctx, catalogueQuery, quoted(t.c.identifier()...))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByNameLax[found])
}

const deferrableQuery = `SELECT c.conname::text FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
WHERE c.conrelid = to_regclass($1) AND c.contype IN ('p', 'u') AND c.condeferrable AND a.attname = $2 LIMIT 1`

// deferrable finds a constraint that makes the id unique at the end of a transaction alone. A plan takes it, and its execution fails.
func (t *table) deferrable(ctx context.Context) error {
	name, id := quoted(t.c.identifier()...), t.c.idColumn()
	var constraint string
	err := t.pool.QueryRow(ctx, deferrableQuery, name, id).Scan(&constraint)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return &misfit{fmt.Sprintf("the constraint by which a delivery is known again is deferrable: ALTER TABLE %s DROP CONSTRAINT %s, ADD UNIQUE (%s);",
		name, quoted(constraint), quoted(id))}
}

// compare finds what every row would fail at.
func (t *table) compare(columns []found) error {
	name := quoted(t.c.identifier()...)
	if len(columns) == 0 {
		return &misfit{fmt.Sprintf("there is no table %s that the user %s sees: `callbackd handler schema postgres` prints the statement that creates it", name, t.user)}
	}
	var narrow []string
	for _, want := range t.c.Columns {
		i := slices.IndexFunc(columns, func(f found) bool { return f.Name == want.Name })
		if i < 0 {
			return &misfit{fmt.Sprintf("table %s has no column %q: ALTER TABLE %s ADD COLUMN %s %s;", name, want.Name, name, quoted(want.Name), want.sqlType())}
		}
		has := columns[i]
		if !slices.Contains(want.sqlType().takenBy(), has.Base) {
			return &misfit{fmt.Sprintf("column %q of table %s is %s, and %s in the configuration: make them the same", want.Name, name, has.Shown, want.sqlType())}
		}
		if exact := want.sqlType().takenBy()[0]; has.Base != exact && has.Shown != "text" {
			narrow = append(narrow, fmt.Sprintf("column %q is %s there, and %s in the configuration", want.Name, has.Shown, want.sqlType()))
		}
	}
	for _, has := range columns {
		mapped := slices.ContainsFunc(t.c.Columns, func(c Column) bool { return c.Name == has.Name })
		if !mapped && has.NotNull && !has.HasDefault {
			return &misfit{fmt.Sprintf("column %q of table %s is NOT NULL, has no default, and columns names nothing for it: ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;",
				has.Name, name, name, quoted(has.Name))}
		}
	}
	if len(narrow) > 0 {
		t.log.Warn("columns of the table take less than the configuration says: a value that does not fit buries its delivery", zap.Strings("columns", narrow))
	}
	t.narrow.Store(&narrow)
	return nil
}
