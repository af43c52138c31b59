package postgres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/postgres"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// bench is a schema of a test's own, and the user whose it is.
type bench struct {
	testing.TB
	*server
	name     string // of the schema and of the user
	registry *prometheus.Registry
	log      *observer.ObservedLogs
	conn     *pgx.Conn
	mu       sync.Mutex // guards conn
}

func newBench(t testing.TB) *bench { return benchOn(t, sharedServer(t)) }

func benchOn(t testing.TB, s *server) *bench {
	t.Helper()
	name := strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "_"))
	name = name[max(0, len(name)-40):]
	b := &bench{TB: t, server: s, name: name}
	b.connect()
	b.exec("CREATE ROLE %[1]q LOGIN PASSWORD '"+password+"'; CREATE SCHEMA %[1]q AUTHORIZATION %[1]q", name)
	return b
}

// connect connects the owner.
func (b *bench) connect() {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.admin())
	if err != nil {
		b.Fatal(err)
	}
	b.conn = conn
	b.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
}

func (b *bench) exec(format string, args ...any) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.conn.Exec(b.Context(), fmt.Sprintf(format, args...)); err != nil {
		b.Fatalf("%s: %v", format, err)
	}
}

// one is the only value of a query.
func (b *bench) one(format string, args ...any) string {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var s *string
	if err := b.conn.QueryRow(b.Context(), fmt.Sprintf("SELECT ("+format+")::text", args...)).Scan(&s); err != nil {
		b.Fatalf("%s: %v", format, err)
	}
	if s == nil {
		return "NULL"
	}
	return *s
}

// config is one of the bench's table, as a user would write it.
func (b *bench) config() *postgres.Config {
	b.Helper()
	c := postgres.Default()
	c.DSN, c.Table = b.socket(b.name), b.name+".callbacks"
	c.PasswordFile = filepath.Join(b.TempDir(), "password")
	if err := os.WriteFile(c.PasswordFile, []byte(password+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return c
}

// create creates the table as the schema that is printed says.
func (b *bench) create(c *postgres.Config) { b.exec("SET ROLE %q; %s RESET ROLE", b.name, c.Schema()) }

func (b *bench) open(c *postgres.Config) handler.Handler {
	b.Helper()
	b.registry = prometheus.NewRegistry()
	core, log := observer.New(zapcore.DebugLevel)
	b.log = log
	return b.openIn(c, handler.Env{Name: "warehouse", Log: zap.New(core), Registerer: b.registry})
}

func (b *bench) openIn(c *postgres.Config, env handler.Env) handler.Handler {
	b.Helper()
	if problems := c.Validate(); len(problems) > 0 {
		b.Fatal(problems)
	}
	h, err := c.Open(b.Context(), env)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Close(); err != nil {
			b.Error(err)
		}
	})
	return h
}

// ready is what the handler says of itself.
func ready(h handler.Handler) string {
	if err := h.(handler.Readier).Ready(); err != nil {
		return err.Error()
	}
	return ""
}

// want checks a verdict: "done", "retry" or "bury", and the text of the error.
func want(t testing.TB, err error, verdict, text string) {
	t.Helper()
	got := "retry"
	switch {
	case err == nil:
		got = "done"
	case handler.IsPermanent(err):
		got = "bury"
	}
	if got != verdict || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want %s: %s", got, err, verdict, text)
	}
	if err == nil {
		return
	}
	for _, secret := range append(handlertest.Personal(), password) {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("the error quotes %q: %v", secret, err)
		}
	}
}

func usage() *handler.Delivery { return handlertest.Delivery(callback.KindUsage) }

func TestSuite(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	handlertest.Run(t, handlertest.Subject{
		Type: postgres.Type(),
		Open: func(t testing.TB, env handler.Env) handler.Handler {
			b := benchOn(t, s)
			c := b.config()
			b.create(c)
			return b.openIn(c, env)
		},
		Broken: func(t testing.TB, env handler.Env) handler.Handler { // nobody listens at the socket
			c := postgres.Default()
			c.DSN = "postgres://warehouse@/postgres?host=" + t.TempDir()
			h, err := c.Open(t.Context(), env)
			if err != nil {
				t.Fatal(err)
			}
			return h
		},
	})
}

// TestARowForEachDelivery: the default mapping, in the table as it is printed. The event is stored as the other handlers write it.
func TestARowForEachDelivery(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	b.create(c)
	h := b.open(c)
	for range 2 {
		for _, d := range handlertest.Deliveries() {
			want(t, h.Handle(t.Context(), d), "done", "")
		}
	}
	n := len(handlertest.Deliveries())
	if got := b.one("SELECT count(*) FROM %s", c.Table); got != fmt.Sprint(n) {
		t.Errorf("%s rows of %d deliveries, each made twice", got, n)
	}
	d := usage()
	row := b.one(`SELECT concat_ws('|', id, received_at AT TIME ZONE 'UTC', service, account, kind, subject, request_id) FROM %s WHERE id = '%s'`, c.Table, d.ID)
	if wanted := d.ID + "|2026-03-14 15:09:29.535897|DeviceUsage|main|Usage|mdn:4155550137|2c90bd28-ece4-42ef-9f02-7e3bd4fbff33"; row != wanted {
		t.Errorf("row is %s, want %s", row, wanted)
	}
	for _, d := range handlertest.Deliveries() {
		event, err := json.Marshal(d.Event())
		if err != nil {
			t.Fatal(err)
		}
		quoted := strings.ReplaceAll(string(event), "'", "''")
		if b.one(`SELECT event = '%s'::jsonb FROM %s WHERE id = '%s'`, strings.ReplaceAll(quoted, "%", "%%"), c.Table, d.ID) != "true" {
			t.Errorf("%s: the event is not what the handler got", d.Callback.Kind)
		}
	}
	if got, known := b.rows(t, "inserted"), b.rows(t, "known"); got != float64(n) || known != float64(n) {
		t.Errorf("metrics count %v inserted and %v known, want %d of each", got, known, n)
	}
	if got := ready(h); got != "" {
		t.Errorf("Ready: %s", got)
	}
}

// rows reads the metric.
func (b *bench) rows(t *testing.T, result string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "callbackd_postgres_rows_total" && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no rows %s among the metrics", result)
	return 0
}

var _ = []any{bytes.Equal, errors.Is, sync.OnceFunc, syscall.SIGINT, time.Now}
