package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"callbackd/internal/handler"

	"github.com/jackc/pgx/v5/pgconn"
)

// Codes of errors (SQLSTATE) that this package has something to say about.
const (
	foreignKey         = "23503"
	readOnly           = "25006"
	noLogin            = "28000"
	wrongPassword      = "28P01"
	privilege          = "42501"
	noArbiter          = "42P10" // ON CONFLICT finds no unique index
	lockNotAvailable   = "55P03"
	queryCanceled      = "57014"
	raisedByTrigger    = "P0001"
	classData          = "22"
	classIntegrity     = "23"
	classRollback      = "40" // serialization failure, deadlock
	classProgramLimits = "54" // a row or an index entry that is too large
)

// verdict is what a failed insertion comes to, and whether the handler is unready until its table has been looked at again. The server's texts
// are not in it: they quote values. They are kept out of the error's chain, too.
func (t *table) verdict(ctx context.Context, err error) (verdict error, unready bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || isConnecting(err) {
		if ctx.Err() != nil {
			return fmt.Errorf("insert: no answer in time: %w", ctx.Err()), false
		}
		advice := ""
		if pg != nil {
			advice = t.advice(pg.Code)
		}
		return errors.New("insert: " + describeConnection(err) + advice), true
	}
	code := "SQLSTATE " + pg.Code
	switch class := pg.Code[:min(2, len(pg.Code))]; {
	case pg.Code == foreignKey:
		return fmt.Errorf("insert: constraint %q wants a row in another table, which may yet come (%s)", pg.ConstraintName, code), false
	case class == classIntegrity:
		return handler.Permanent(fmt.Errorf("insert: the table refuses the row: %s (%s)", violated(pg), code)), false
	case class == classData || class == classProgramLimits:
		return handler.Permanent(fmt.Errorf("insert: the table refuses a value (%s)%s", code, t.narrower())), false
	case class == classRollback, pg.Code == lockNotAvailable, pg.Code == queryCanceled, pg.Code == raisedByTrigger:
		return fmt.Errorf("insert: the server gave up (%s)", code), false
	}
	return fmt.Errorf("insert: the server refuses (%s); what it says about the table is in the log and on /readyz", code), true
}

// violated names what an integrity violation is about.
func violated(pg *pgconn.PgError) string {
	if pg.ColumnName != "" {
		return fmt.Sprintf("column %q may not be null", pg.ColumnName)
	}
	return fmt.Sprintf("constraint %q", pg.ConstraintName)
}

// narrower names the columns that take less than their configured type.
func (t *table) narrower() string {
	if list := t.narrow.Load(); list != nil && len(*list) > 0 {
		return ": " + strings.Join(*list, "; ")
	}
	return ""
}

// isConnecting reports whether no statement was sent yet: then the server's texts quote no value.
func isConnecting(err error) bool {
	var c *pgconn.ConnectError
	return errors.As(err, &c)
}

// describeConnection is the text of an error of the connection. That of one in the middle of a statement is not shown, for nobody knows what is in it.
func describeConnection(err error) string {
	var broken *net.OpError
	switch {
	case isConnecting(err), errors.Is(err, errPassword):
		return oneLine(err)
	case errors.As(err, &broken):
		return oneLine(broken)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection"
	}
	return "the connection broke"
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
