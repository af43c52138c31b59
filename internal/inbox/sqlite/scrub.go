package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// SQLite's secure_delete writes zeros over a row that is deleted where it is. But when a B-tree is balanced, rows move to another page,
// and their bytes stay in the part of the old page that belongs to no row: there a row has copies that deleting it does not reach.
// Scrubbing writes zeros over these parts of all pages.

// scrubStep bounds the pages of one transaction.
const scrubStep = 64

// mostScrubbed bounds the pages of the database: below it, no page of another sort begins as one of a B-tree does, for these begin with
// the number of a page. With pages of 4 KiB it is at 128 GiB.
const mostScrubbed = 1 << 25

// scrub writes zeros over what no row owns. Pages are searched beside the writer, and written by it, a few at a time.
func (s *Store) scrub(ctx context.Context) error {
	var pages, vacuum uint32
	err := s.db.QueryRowContext(ctx, `SELECT p.page_count, v.auto_vacuum FROM pragma_page_count p, pragma_auto_vacuum v`).Scan(&pages, &vacuum)
	if err != nil {
		return s.report(fmt.Errorf("scrub: %w", classify(err)))
	}
	if pages >= mostScrubbed || vacuum != 0 {
		return errors.New("the device is erased from all tables, but the database is of a size or layout whose unused parts cannot be cleared in " +
			"place: stop callbackd, run `VACUUM` on inbox.db with sqlite3, and erase again")
	}
	read, err := s.db.PrepareContext(ctx, readPage)
	if err != nil {
		return s.report(fmt.Errorf("scrub: %w", classify(err)))
	}
	defer read.Close()
	var dirty []uint32
	for number := uint32(1); number <= pages; number++ {
		page, err := pageOf(ctx, read, number)
		if err != nil {
			return s.report(err)
		}
		if zeroUnowned(number, page) {
			dirty = append(dirty, number)
		}
	}
	for part := range slices.Chunk(dirty, scrubStep) {
		if err := s.operate(ctx, false, func(*effects) error { return s.scrubPages(ctx, part) }); err != nil {
			return err
		}
	}
	return nil
}

const readPage = `SELECT data FROM sqlite_dbpage WHERE pgno = ?`

// pageOf reads a page; none is there if the database has become smaller.
func pageOf(ctx context.Context, read *sql.Stmt, number uint32) (page []byte, err error) {
	err = read.QueryRowContext(ctx, number).Scan(&page)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read page %d: %w", number, classify(err))
	}
	return page, nil
}

// scrubPages reads the pages again, as the writer sees them, and writes those that still have something to clear.
func (s *Store) scrubPages(ctx context.Context, numbers []uint32) error {
	read, err := s.conn.PrepareContext(ctx, readPage)
	if err != nil {
		return err
	}
	defer read.Close()
	for _, number := range numbers {
		page, err := pageOf(ctx, read, number)
		if err != nil {
			return err
		}
		if !zeroUnowned(number, page) {
			continue
		}
		if _, err := s.conn.ExecContext(ctx, `UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1`, number, page); err != nil {
			return fmt.Errorf("write page %d: %w", number, err)
		}
	}
	return nil
}

// zeroUnowned writes zeros between a B-tree page's cell pointers and its cells, and reports whether anything else was there. A page that is not
// of a B-tree, or not as the file format has it, stays as it is.
//
// Source: https://www.sqlite.org/fileformat2.html#b_tree_pages
func zeroUnowned(number uint32, page []byte) bool {
	header := 0
	if number == 1 {
		header = 100 // of the file
	}
	if len(page) < header+12 {
		return false
	}
	h := page[header:]
	pointers := header
	switch h[0] {
	case 2, 5: // interior: of an index, of a table
		pointers += 12
	case 10, 13: // leaves
		pointers += 8
	default:
		return false
	}
	cells := int(binary.BigEndian.Uint16(h[3:]))
	from, to := pointers+2*cells, int(binary.BigEndian.Uint16(h[5:]))
	if to == 0 {
		to = 1 << 16
	}
	if from > to || to > len(page) {
		return false
	}
	for p := pointers; p < from; p += 2 {
		if at := int(binary.BigEndian.Uint16(page[p:])); at < to || at >= len(page) {
			return false
		}
	}
	found := false
	for i := from; i < to; i++ {
		found = found || page[i] != 0
		page[i] = 0
	}
	return found
}
