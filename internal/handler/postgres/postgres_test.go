package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
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

// benches counts them, so that a test which is run twice has a name for each.
var benches atomic.Int32

func newBench(t testing.TB) *bench { return benchOn(t, sharedServer(t)) }

func benchOn(t testing.TB, s *server) *bench {
	t.Helper()
	name := strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "_"))
	name = fmt.Sprintf("u%d_%s", benches.Add(1), name[max(0, len(name)-40):])
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

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, true func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 4000 {
		if true() {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s: not within 20 s", what)
}

// TestWhatAnOperatorHasToMend: the delivery waits, and Ready says what mends it; when that is done, Ready knows without a delivery, and the
// delivery is made.
func TestWhatAnOperatorHasToMend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ rule, spoil, says, mend string }{
		{"no table", "DROP TABLE T", "there is no table T that the user U sees: `callbackd handler schema postgres` prints", "CREATE-AGAIN"},
		{"a column is missing", `ALTER TABLE T DROP COLUMN kind`, `no column "kind": MEND`, `ALTER TABLE T ADD COLUMN "kind" text;`},
		{"nothing is unique", `ALTER TABLE T DROP CONSTRAINT callbacks_pkey`, "by which a delivery is known again: MEND", `CREATE UNIQUE INDEX ON T ("id");`},
		{"what is unique is deferrable", `ALTER TABLE T DROP CONSTRAINT callbacks_pkey, ADD UNIQUE (id) DEFERRABLE`, "by which a delivery is known again is deferrable: MEND",
			`ALTER TABLE T DROP CONSTRAINT "callbacks_id_key", ADD UNIQUE ("id");`},
		{"the unique index is partial", `ALTER TABLE T DROP CONSTRAINT callbacks_pkey; CREATE UNIQUE INDEX ON T (id) WHERE id > ''`, "by which a delivery is known again: MEND",
			`CREATE UNIQUE INDEX ON T ("id");`},
		{"another type, which would refuse every value", "ALTER TABLE T DROP COLUMN service, ADD COLUMN service uuid",
			`column "service" of table T is uuid, and text in the configuration: make them the same`, "ALTER TABLE T ALTER COLUMN service TYPE text"},
		{"a column that nothing is for", "ALTER TABLE T ADD COLUMN tenant text NOT NULL", `column "tenant" of table T is NOT NULL, has no default, and columns names nothing for it: MEND`,
			`ALTER TABLE T ALTER COLUMN "tenant" DROP NOT NULL;`},
		{"no privilege on the table", "ALTER TABLE T OWNER TO admin", "permission denied for table callbacks", "GRANT"},
		{"no privilege on the schema", "ALTER SCHEMA U OWNER TO admin", "permission denied for schema", "GRANT"},
		{"a read-only role", "ALTER ROLE U SET default_transaction_read_only = on", "the database is read only, as a standby is: name the primary in dsn",
			"ALTER ROLE U RESET default_transaction_read_only"},
		{"no log-in", "ALTER ROLE U NOLOGIN", "not permitted to log in", "ALTER ROLE U LOGIN"},
		{"another password", "ALTER ROLE U PASSWORD 'changed'", "(SQLSTATE 28P01): see to the user in dsn, its password in password_file", "ALTER ROLE U PASSWORD '" + password + "'"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c := b.config()
			c.CheckEvery(20 * time.Millisecond)
			b.create(c)
			named := strings.NewReplacer("T", fmt.Sprintf(`"%s"."callbacks"`, b.name), "U", b.name, "MEND", "MEND", "GRANT", "GRANT")
			sql := func(text string) string { // T is the table, U the user
				return regexp.MustCompile(`\b[TU]\b`).ReplaceAllStringFunc(text, named.Replace)
			}
			b.exec("%s", sql(test.spoil))
			h := b.open(c)
			mend := map[string]string{"CREATE-AGAIN": "SET ROLE " + b.name + "; " + c.Schema() + "RESET ROLE", "GRANT": c.Grants()}[test.mend]
			if mend == "" {
				mend = sql(test.mend)
			}
			says := strings.ReplaceAll(sql(test.says), "MEND", mend)
			want(t, h.Handle(t.Context(), usage()), "retry", says)
			if got := ready(h); !strings.Contains(got, says) {
				t.Errorf("Ready says %q, want %q", got, says)
			}
			if test.mend == "GRANT" && !strings.Contains(ready(h), strings.Join(strings.Fields(mend), " ")) {
				t.Errorf("Ready says %q, want the statements %q", ready(h), mend)
			}
			if b.log.FilterMessageSnippet("not ready").Len() == 0 {
				t.Error("the log does not tell")
			}
			b.exec("%s", mend)
			until(t, "ready again", func() bool { return ready(h) == "" })
			want(t, h.Handle(t.Context(), usage()), "done", "")
			if b.one("SELECT count(*) FROM %s", c.Table) != "1" {
				t.Error("no row")
			}
		})
	}
}

// TestATableThatIsSpoiledLater: what was fit is looked at again after it has failed.
func TestATableThatIsSpoiledLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	b.create(c)
	h := b.open(c)
	want(t, h.Handle(t.Context(), usage()), "done", "")
	b.exec("ALTER TABLE %s RENAME TO away", c.Table)
	want(t, h.Handle(t.Context(), usage()), "retry", "SQLSTATE 42P01")
	want(t, h.Handle(t.Context(), usage()), "retry", "there is no table")
	b.exec("ALTER TABLE %s.away RENAME TO callbacks", b.name)
	want(t, h.Handle(t.Context(), usage()), "done", "")
	if got := ready(h); got != "" {
		t.Errorf("Ready: %s", got)
	}
}

// TestVerdicts: what the server answers to a row. The triggers and constraints quote what they can; none of it may be told.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ rule, alter, verdict, says string }{
		{"a check", "ALTER TABLE T ADD CONSTRAINT never CHECK (subject = '')", "bury", `constraint "never" (SQLSTATE 23514)`},
		{"not null", "ALTER TABLE T ALTER COLUMN plan SET NOT NULL", "bury", `column "plan" may not be null (SQLSTATE 23502)`},
		{"another unique index", "CREATE UNIQUE INDEX subject_once ON T (subject); INSERT INTO T (id, subject) VALUES ('other', 'mdn:4155550137')", "bury",
			`constraint "subject_once" (SQLSTATE 23505)`},
		{"a foreign key, whose row may come", "CREATE TABLE T_devices (subject text PRIMARY KEY); ALTER TABLE T ADD CONSTRAINT device FOREIGN KEY (subject) REFERENCES T_devices", "retry",
			`constraint "device" wants a row in another table`},
		{"a column that is shorter", "ALTER TABLE T ALTER COLUMN subject TYPE varchar(4)", "bury",
			`(SQLSTATE 22001): column "subject" is character varying(4) there, and text in the configuration`},
		{"a column of smaller numbers", "ALTER TABLE T ALTER COLUMN bytes TYPE smallint", "bury",
			`(SQLSTATE 22003): column "bytes" is smallint there, and bigint in the configuration`},
		{"an index entry that is too large", "RAISE 54000", "bury", "refuses a value (SQLSTATE 54000)"},
		{"a serialization failure", "RAISE 40001", "retry", "the server gave up (SQLSTATE 40001)"},
		{"a deadlock", "RAISE 40P01", "retry", "the server gave up (SQLSTATE 40P01)"},
		{"an exception of a trigger", "RAISE P0001", "retry", "the server gave up (SQLSTATE P0001)"},
		{"a full disk", "RAISE 53100", "retry", "the server refuses (SQLSTATE 53100)"},
		{"an administrator's shutdown", "RAISE 57P01", "retry", "the server refuses (SQLSTATE 57P01)"},
		{"an invalid value, by a trigger", "RAISE 22023", "bury", "refuses a value (SQLSTATE 22023)"},
		{"a row that a trigger skips is none that was inserted", "SKIP", "done", ""},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c := b.config()
			c.Columns = []postgres.Column{{Name: "id", Path: "id"}, {Name: "subject", Path: "subject"}, {Name: "bytes", Path: "data.usage.bytesUsed", Type: "bigint"},
				{Name: "plan", Path: "data.fault.code"}, {Name: "b", Path: "data.usage.source"}}
			b.create(c)
			if code, raise := strings.CutPrefix(test.alter, "RAISE "); raise || test.alter == "SKIP" {
				body := "RETURN NULL"
				if raise {
					body = "RAISE EXCEPTION '% and %', NEW.subject, NEW USING ERRCODE = '" + code + "', DETAIL = NEW.subject, HINT = NEW.subject"
				}
				b.exec("%s", "CREATE FUNCTION "+b.name+".refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+body+"; END $$;"+
					"CREATE TRIGGER refuse BEFORE INSERT ON "+c.Table+" FOR EACH ROW EXECUTE FUNCTION "+b.name+".refuse()")
			} else {
				b.exec("%s", regexp.MustCompile(`\bT(\b|_)`).ReplaceAllString(test.alter, c.Table+"$1"))
				b.exec("GRANT ALL ON ALL TABLES IN SCHEMA %q TO %q", b.name, b.name)
			}
			h := b.open(c)
			want(t, h.Handle(t.Context(), usage()), test.verdict, test.says)
			for _, line := range b.log.All() {
				for _, secret := range handlertest.Personal() {
					if strings.Contains(fmt.Sprint(line.Message, line.ContextMap()), secret) {
						t.Errorf("the log quotes %q: %v", secret, line)
					}
				}
			}
		})
	}
}

// TestValues: what the columns take of an event, and what buries it, by the name of the column alone.
func TestValues(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	usageOf := func(bytes, at string) func(*callback.Callback) {
		return func(c *callback.Callback) {
			c.Usage.BytesUsed, c.Usage.Timestamp = callback.Number(bytes), callback.Time{Text: at}
			c.Usage.ExtendedAttributes = []callback.Attribute{{Key: "MtSms", Value: "7"}, {Key: "MoSms", Value: "4"}}
			c.Extra = []callback.Element{{Name: "Odd", Text: "it's; DROP TABLE \\ \"x\" $1 \u00e9", Attributes: map[string]string{"a.b": "c", "d": "e"}}}
		}
	}
	const bytes, at = "data.usage.bytesUsed", "data.usage.timestamp.iso"
	for _, test := range []struct {
		rule       string
		column     postgres.Column
		change     func(*callback.Callback)
		want, says string // want is the row's; empty: it is buried, and says why
	}{
		{"a whole number", postgres.Column{Path: bytes, Type: "bigint"}, usageOf(" 9223372036854775807 ", ""), "9223372036854775807", ""},
		{"a negative one", postgres.Column{Path: bytes, Type: "bigint"}, usageOf("-1", ""), "-1", ""},
		{"one that is too large", postgres.Column{Path: bytes, Type: "bigint"}, usageOf("9223372036854775808", ""), "", bytes + " holds what is no bigint"},
		{"a fraction is no whole number", postgres.Column{Path: bytes, Type: "bigint"}, usageOf("12.5", ""), "", bytes + " holds what is no bigint"},
		{"nor is a number with commas", postgres.Column{Path: bytes, Type: "bigint"}, usageOf("1,048,576", ""), "", bytes + " holds what is no bigint"},
		{"what is blank is null", postgres.Column{Path: bytes, Type: "bigint"}, usageOf("  ", ""), "NULL", ""},
		{"a decimal number", postgres.Column{Path: bytes, Type: "numeric"}, usageOf("+12.50", ""), "12.50", ""},
		{"one with an exponent", postgres.Column{Path: bytes, Type: "numeric"}, usageOf("1.5E3", ""), "1500", ""},
		{"an exponent that would fill the disk", postgres.Column{Path: bytes, Type: "numeric"}, usageOf("1e100000", ""), "", "holds what is no numeric"},
		{"infinity is no number", postgres.Column{Path: bytes, Type: "numeric"}, usageOf("Infinity", ""), "", "holds what is no numeric"},
		{"nor is NaN", postgres.Column{Path: bytes, Type: "numeric"}, usageOf("NaN", ""), "", "holds what is no numeric"},
		{"a date with a zone", postgres.Column{Path: at, Type: "timestamptz"}, usageOf("", "2026-03-14T01:02:03.5+02:00"), "2026-03-13 23:02:03.5+00", ""},
		{"no zone is invented", postgres.Column{Path: at, Type: "timestamptz"}, usageOf("", "3/14/2026 1:02:03 AM"), "", at + " holds what is no timestamptz"},
		{"a date without a zone", postgres.Column{Path: at, Type: "timestamp"}, usageOf("", "3/14/2026 1:02:03 AM"), "2026-03-14 01:02:03", ""},
		{"no zone is dropped", postgres.Column{Path: at, Type: "timestamp"}, usageOf("", "2026-03-14T01:02:03Z"), "", at + " holds what is no timestamp"},
		{"a date that cannot be read is none", postgres.Column{Path: at, Type: "timestamp"}, usageOf("", "yesterday"), "NULL", ""},
		{"and is there as text", postgres.Column{Path: "data.usage.timestamp.text"}, usageOf("", "yesterday"), "yesterday", ""},
		{"what the callback lacks is null", postgres.Column{Path: "data.fault.code"}, usageOf("", ""), "NULL", ""},
		{"an object that it lacks is null, and not the JSON null", postgres.Column{Path: "data.fault", Type: "jsonb"}, usageOf("", ""), "NULL", ""},
		{"true or false", postgres.Column{Path: "replay"}, usageOf("", ""), "true", ""},
		{"a whole number of JSON", postgres.Column{Path: "data.callbackCount", Type: "bigint"}, func(c *callback.Callback) { c.CallbackCount = 3 }, "3", ""},
		{"a device by its kind", postgres.Column{Path: "data.devices.IccId.identifier"}, usageOf("", ""), "89148000001471859842", ""},
		{"a device by its position", postgres.Column{Path: "data.devices.0.identifier"}, usageOf("", ""), "4155550137", ""},
		{"a device that is not there", postgres.Column{Path: "data.devices.imei.identifier"}, usageOf("", ""), "NULL", ""},
		{"a position that is not there", postgres.Column{Path: "data.devices.2.kind"}, usageOf("", ""), "NULL", ""},
		{"an attribute by its key", postgres.Column{Path: "data.usage.extendedAttributes.mosms.value", Type: "bigint"}, usageOf("", ""), "4", ""},
		{"a list", postgres.Column{Path: "data.usage.extendedAttributes", Type: "jsonb"}, usageOf("", ""),
			`[{"key": "MtSms", "value": "7"}, {"key": "MoSms", "value": "4"}]`, ""},
		{"an attribute of what was not known", postgres.Column{Path: "data.extra.0.attributes.d"}, usageOf("", ""), "e", ""},
		{"text is text, whatever it looks like", postgres.Column{Path: "data.extra.0.text"}, usageOf("", ""), `it's; DROP TABLE \ "x" $1 é`, ""},
		{"a name that looks like SQL", postgres.Column{Name: `"; DROP TABLE x; --`, Path: "service"}, usageOf("", ""), "DeviceUsage", ""},
		{"a character that no text of PostgreSQL has", postgres.Column{Path: "data.extra.0.text"}, func(c *callback.Callback) { c.Extra = []callback.Element{{Text: "a\x00b"}} }, "",
			"data.extra.0.text holds the character U+0000"},
		{"nor has its JSON", postgres.Column{Path: "data.extra", Type: "jsonb"}, func(c *callback.Callback) {
			c.Extra = []callback.Element{{Attributes: map[string]string{"a\x00b": ""}}}
		}, "",
			"data.extra holds the character U+0000"},
		{"six characters that look like it are text", postgres.Column{Path: "data.extra.0", Type: "jsonb"}, func(c *callback.Callback) { c.Extra = []callback.Element{{Text: `\u0000`}} },
			`{"name": "", "text": "\\u0000"}`, ""},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			b := benchOn(t, s)
			c := b.config()
			if test.column.Name == "" {
				test.column.Name = "Value"
			}
			c.Columns = []postgres.Column{test.column, {Name: "id", Path: "id"}}
			b.create(c)
			h := b.open(c)
			d := usage()
			d.Replay = true
			test.change(d.Callback)
			if test.says != "" {
				want(t, h.Handle(t.Context(), d), "bury", `column "Value": `)
				want(t, h.Handle(t.Context(), d), "bury", test.says)
				return
			}
			want(t, h.Handle(t.Context(), d), "done", "")
			b.exec("SET timezone TO 'UTC'")
			if got := b.one("SELECT %s FROM %s", pgx.Identifier{test.column.Name}.Sanitize(), c.Table); got != test.want {
				t.Errorf("row holds %q, want %q", got, test.want)
			}
		})
	}
}

// TestOneRowForADeliveryThatIsMadeAtOnce: at least once can be twice, and at the same time.
func TestOneRowForADeliveryThatIsMadeAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	c.Connections = 3
	b.create(c)
	h := b.open(c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, d := range handlertest.Deliveries() {
				if err := h.Handle(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.one("SELECT count(*) FROM %s", c.Table); n != fmt.Sprint(len(handlertest.Deliveries())) {
		t.Errorf("%s rows", n)
	}
	if n := b.one("SELECT count(*) FROM pg_stat_activity WHERE usename = '%s'", b.name); n != "3" {
		t.Errorf("%s connections, want the 3 of the configuration", n)
	}
}

// TestAStatementThatWaits is given up by the server, and by the attempt's own time; what it holds is let go.
func TestAStatementThatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	c.StatementTimeout = 50 * time.Millisecond
	b.create(c)
	h := b.open(c)
	want(t, h.Handle(t.Context(), handlertest.Delivery(callback.KindStatus)), "done", "")
	b.exec("BEGIN; LOCK TABLE %s", c.Table)
	want(t, h.Handle(t.Context(), usage()), "retry", "the server gave up (SQLSTATE 57014)")
	c.StatementTimeout = time.Hour
	patient := b.open(c)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := patient.Handle(ctx, usage())
	want(t, err, "retry", "")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, which does not tell of the time", err)
	}
	until(t, "no statement waits in the server", func() bool {
		return b.one("SELECT count(*) FROM pg_stat_activity WHERE usename = '%s' AND wait_event_type = 'Lock'", b.name) == "0"
	})
	b.exec("COMMIT")
	want(t, patient.Handle(t.Context(), usage()), "done", "")
	want(t, h.Handle(t.Context(), usage()), "done", "")
	if n := b.one("SELECT count(*) FROM %s", c.Table); n != "2" {
		t.Errorf("%s rows, want 2", n)
	}
}

// TestTheServerRestarts in the middle, in order and by a crash: no delivery is lost, and none has two rows.
func TestTheServerRestarts(t *testing.T) {
	t.Parallel()
	s := copyOf(t, sharedServer(t))
	b := benchOn(t, s)
	c := b.config()
	c.CheckEvery(20 * time.Millisecond)
	b.create(c)
	h := b.open(c)
	const workers, each = 6, 60
	var wg sync.WaitGroup
	passed := make(chan struct{}, workers*each) // one for each delivery
	failed := make(chan struct{}, 1)            // whenever one fails
	for w := range workers {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := range each {
				d := usage()
				d.ID = fmt.Sprintf("%d.%d", w, i)
				for err := h.Handle(t.Context(), d); err != nil; err = h.Handle(t.Context(), d) {
					want(t, err, "retry", "")
					select {
					case failed <- struct{}{}:
					default:
					}
					<-tick.C
				}
				passed <- struct{}{}
			}
		})
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		for range 40 {
			<-passed
		}
		if err := s.stop(signal); err != nil {
			t.Fatal(err)
		}
		<-failed
		until(t, "not ready while the server is away", func() bool { return ready(h) != "" })
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		until(t, "ready again", func() bool { return ready(h) == "" })
	}
	wg.Wait()
	b.connect()
	if got := b.one("SELECT concat(count(*), ' ', count(DISTINCT id)) FROM %s", c.Table); got != fmt.Sprintf("%[1]d %[1]d", workers*each) {
		t.Errorf("rows and distinct ids: %s, want %d", got, workers*each)
	}
}

// TestAConnectionThatAnAdministratorEnds costs an attempt at most.
func TestAConnectionThatAnAdministratorEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	c.Connections = 1
	b.create(c)
	h := b.open(c)
	want(t, h.Handle(t.Context(), usage()), "done", "")
	b.exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '%s'", b.name)
	d := usage()
	d.ID = "after"
	if err := h.Handle(t.Context(), d); err != nil {
		want(t, err, "retry", "insert: ")
		want(t, h.Handle(t.Context(), d), "done", "")
	}
	if n := b.one("SELECT count(*) FROM %s", c.Table); n != "2" {
		t.Errorf("%s rows, want 2", n)
	}
}

// TestAPasswordThatIsChanged is read for the next connection.
func TestAPasswordThatIsChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.config()
	b.create(c)
	h := b.open(c)
	want(t, h.Handle(t.Context(), usage()), "done", "")
	b.exec("ALTER ROLE %q PASSWORD 'changed'; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '%s'", b.name, b.name)
	until(t, "the old password is refused", func() bool {
		err := h.Handle(t.Context(), usage())
		return err != nil && strings.Contains(err.Error(), "password authentication failed")
	})
	for content, says := range map[string]string{"": "is empty", "a\nb\n": "several lines"} {
		if err := os.WriteFile(c.PasswordFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, h.Handle(t.Context(), usage()), "retry", says)
	}
	if err := os.Remove(c.PasswordFile); err != nil {
		t.Fatal(err)
	}
	want(t, h.Handle(t.Context(), usage()), "retry", "there is no such file: write it, or mend the path")
	if err := os.WriteFile(c.PasswordFile, []byte("\ufeffchanged\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, h.Handle(t.Context(), usage()), "done", "")
}

// TestTLS: the server has a certificate for localhost, by an authority of its own, and takes the user certified by a certificate alone.
func TestTLS(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, other := file("root.pem", b.authority), file("other.pem", newCertificate("another authority", nil).pem)
	certificate := "&sslcert=" + file("client.pem", b.client.pem) + "&sslkey=" + file("client.key", b.client.key())
	base := b.config()
	b.create(base)
	b.exec("GRANT USAGE ON SCHEMA %q TO certified; GRANT INSERT, SELECT ON %s TO certified", b.name, base.Table)
	for _, test := range []struct{ rule, user, host, settings, verdict, says string }{
		{"the authority is known, and the name is right", b.name, "localhost", "sslrootcert=" + root, "done", ""},
		{"verify-full is the default, so an authority has to be known", b.name, "localhost", "", "retry", "certificate"},
		{"another authority", b.name, "localhost", "sslmode=verify-full&sslrootcert=" + other, "retry", "certificate signed by unknown authority"},
		{"another name", b.name, "127.0.0.1", "sslmode=verify-full&sslrootcert=" + root, "retry", "127.0.0.1"},
		{"another name that nobody looks at", b.name, "127.0.0.1", "sslmode=verify-ca&sslrootcert=" + root, "done", ""},
		{"no proof is wanted", b.name, "localhost", "sslmode=require", "done", ""},
		{"a server that takes TLS alone", b.name, "localhost", "sslmode=disable", "retry", "no encryption"},
		{"a certificate of the user's", "certified", "localhost", "sslrootcert=" + root + certificate, "done", ""},
		{"no certificate of the user's", "certified", "localhost", "sslrootcert=" + root, "retry", "certificate"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			c := *base
			c.DSN = b.tcp(test.user, test.host, test.settings)
			want(t, b.open(&c).Handle(t.Context(), usage()), test.verdict, test.says)
		})
	}
	for settings, says := range map[string]string{
		"sslrootcert=" + filepath.Join(dir, "none.pem"): "none.pem",
		"sslrootcert=" + b.client.file(t):               "unable to load cert",
	} {
		c := *base
		c.DSN = b.tcp("certified", "localhost", settings+"&sslcert="+root+"&sslkey="+filepath.Join(dir, "client.key"))
		if _, err := c.Open(t.Context(), handler.Env{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", settings, err, says)
		}
	}
}

// TestTheEnvironmentSetsNothing: what is in effect stands in the configuration.
func TestTheEnvironmentSetsNothing(t *testing.T) {
	b := newBench(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:*:"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "PGHOST": "nowhere.example", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/none", "PGSSLCERT": "/none", "PGSSLKEY": "/none", "PGOPTIONS": "-c search_path=none", "PGTZ": "Mars/Base",
		"PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "x", "PGTARGETSESSIONATTRS": "standby", "PGREQUIREAUTH": "none", "PGCHANNELBINDING": "require",
		"PGSSLCERTMODE": "require", "PGMINPROTOCOLVERSION": "3.2", "PGPASSFILE": filepath.Join(home, ".pgpass"), "PGPASSWORD": password} {
		t.Setenv(name, value)
	}
	c := b.config()
	b.create(c)
	h := b.open(c)
	want(t, h.Handle(t.Context(), usage()), "done", "")
	if got := b.one("SELECT string_agg(DISTINCT application_name, ',') FROM pg_stat_activity WHERE usename = '%s'", b.name); got != "callbackd" {
		t.Errorf("application_name is %s", got)
	}
	c.PasswordFile = ""
	want(t, b.open(c).Handle(t.Context(), usage()), "retry", "password")
}

// TestAServerThatNeverAnswers holds up neither an attempt nor Close.
func TestAServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := postgres.Default()
	c.DSN = fmt.Sprintf("postgres://warehouse@%s/app?sslmode=disable", l.Addr())
	h, err := c.Open(t.Context(), handler.Env{Log: zap.NewNop(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Handle(ctx, usage()); !errors.Is(err, context.DeadlineExceeded) || handler.IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
	from := time.Now()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(from); took > 3*time.Second {
		t.Errorf("Close took %s", took)
	}
}

// TestMetricsComeAndGo: a handler that is closed leaves none behind, so that it can be opened again.
func TestMetricsComeAndGo(t *testing.T) {
	t.Parallel()
	c := postgres.Default()
	c.DSN = "postgres://warehouse@/postgres?host=" + t.TempDir()
	registry := prometheus.NewRegistry()
	for range 2 {
		h, err := c.Open(t.Context(), handler.Env{Log: zap.NewNop(), Registerer: registry})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Open(t.Context(), handler.Env{Log: zap.NewNop(), Registerer: registry}); err == nil {
			t.Error("two handlers share their metrics")
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if families, err := registry.Gather(); err != nil || len(families) != 0 {
			t.Errorf("%d metrics are left, %v", len(families), err)
		}
	}
}
