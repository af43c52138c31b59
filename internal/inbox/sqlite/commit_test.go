package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/inbox"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// TestHotStatementsUseTheirIndexes: no statement of the ack path, of the claims and of the making of an order reads a table from end to end. A statement that is
// not in the list fails, so that a new one gets its plan looked at.
func TestHotStatementsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	delivery := []string{"SEARCH delivery USING PRIMARY KEY (seq=? AND handler=? AND replay=?)"}
	body := []string{"SEARCH e USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"}
	state := []string{"SEARCH d USING PRIMARY KEY (seq=?)", "SEARCH d USING COVERING INDEX delivery_dead_seq (seq=?)"}
	bodyOf := "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"
	lag := []string{"SCAN h USING COVERING INDEX sqlite_autoindex_handler_1", "SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"}
	lag = append(lag, slices.Repeat([]string{"SEARCH delivery USING COVERING INDEX delivery_pending (handler=? AND wait=?)"}, 4)...)
	lag = append(lag, "SEARCH (subquery-4)")
	const pendingAfter = "SEARCH delivery USING COVERING INDEX delivery_pending (handler=? AND wait=? AND seq>?)"
	plans := map[string][]string{ // by a part that one statement alone has; empty: there is nothing to search
		"BEGIN IMMEDIATE":           nil,
		"COMMIT":                    nil,
		"ROLLBACK":                  nil,
		"INSERT INTO dedup":         nil,
		"INSERT INTO entry":         nil,
		"INSERT INTO body":          nil,
		"INSERT INTO device":        nil,
		"replay, due_at, wait)":     nil,
		"due_at, order_key, wait)":  {"SEARCH delivery USING COVERING INDEX delivery_lane (handler=? AND order_key=?)"},
		"INSERT INTO sighting":      nil,
		"INSERT INTO handler":       nil,
		"SELECT seq, at FROM dedup": {"SEARCH dedup USING PRIMARY KEY (key=?)"},
		"UPDATE dedup SET":          {"SEARCH dedup USING PRIMARY KEY (key=?)"},
		"UPDATE entry SET":          {"SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"},
		"delivery SET state = 1":    delivery,
		"delivery SET attempts":     delivery,
		"delivery SET state = 2":    delivery,
		"SELECT order_key FROM":     delivery,
		"delivery SET order_key":    delivery,
		"delivery SET wait = 0":     {delivery[0], "SEARCH delivery USING COVERING INDEX delivery_lane (handler=? AND order_key=?)"},
		"(seq, replay) >= (?2, ?3)": {"SEARCH d USING INDEX delivery_pending (handler=? AND wait=? AND (seq,replay)>(?,?))", bodyOf},
		"SELECT max(seq)":           append([]string{"SCAN CONSTANT ROW"}, lag[2:4]...),
		"(replay > 0) = ?2":         {"SEARCH d USING INDEX delivery_waiting (handler=? AND <expr>=?)", bodyOf},
		"replay = 0 ORDER BY seq":   {"SEARCH delivery USING COVERING INDEX delivery_pending (handler=? AND wait=?)"},
		"SELECT name, (SELECT":      lag,
		"LIMIT ?3 ) p JOIN entry":   append(slices.Repeat([]string{pendingAfter}, 3), "SCAN p", "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
		"SELECT value FROM meta":    {"SEARCH meta USING PRIMARY KEY (key=?)"},
		"json_each":                 body,
		"WHERE e.seq = ?1":          slices.Concat(body, state),
	}
	used := make(map[string]bool)
	for _, p := range slices.Concat(s.w.list(), readerStatements(&readStatements{}), []prepared{{sql: pendingStatement}}) {
		text := strings.Join(strings.Fields(p.sql), " ")
		known := false
		for part, want := range plans {
			if !strings.Contains(text, part) {
				continue
			}
			known, used[part] = true, true
			if got := searches(t, s, p.sql); !slices.Equal(got, want) {
				t.Errorf("%s\nhas the plan %q\nwant %q", text, got, want)
			}
		}
		if !known {
			t.Errorf("no plan is known of %s", text)
		}
	}
	for part := range plans {
		if !used[part] {
			t.Errorf("no statement has %q", part)
		}
	}
}

// searches is how SQLite searches tables for a statement.
func searches(t *testing.T, s *Store, sql string) []string {
	t.Helper()
	if first := strings.Fields(sql)[0]; first == "BEGIN" || first == "COMMIT" || first == "ROLLBACK" {
		return nil
	}
	var args []any
	for n := 1; strings.Contains(sql, fmt.Sprint("?", n)); n++ {
		args = append(args, n)
	}
	rows, err := s.db.Query("EXPLAIN QUERY PLAN "+sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(detail, "json_each") {
			continue // the list that the statement was given
		}
		if strings.HasPrefix(detail, "SEARCH") || strings.HasPrefix(detail, "SCAN") || strings.HasPrefix(detail, "USE") {
			steps = append(steps, strings.TrimSuffix(detail, " LEFT-JOIN"))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// BenchmarkAppend appends entries of 2 KB with a delivery each, from 64 goroutines, and reports entries and transactions a second.
func BenchmarkAppend(b *testing.B) {
	const senders = 64
	registry := prometheus.NewRegistry()
	s := newStore(b, func(o *Options) { o.Metrics = inbox.NewMetrics(registry) })
	body := []byte(strings.Repeat("<Device>0123456789</Device>", 2048/27))
	next := make(chan int)
	var wait sync.WaitGroup
	for range senders {
		wait.Go(func() {
			for n := range next {
				a := testArrival(fmt.Sprint(n), "log")
				a.Entry.ID, a.Entry.Body = uuid.NewString(), body
				if _, err := s.Append(context.Background(), a); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		next <- n
	}
	close(next)
	wait.Wait()
	elapsed := b.Elapsed().Seconds()
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "callbackd_inbox_batch_appends" {
			h := f.GetMetric()[0].GetHistogram()
			b.ReportMetric(h.GetSampleSum()/elapsed, "entries/s")
			b.ReportMetric(float64(h.GetSampleCount())/elapsed, "commits/s")
		}
	}
}
