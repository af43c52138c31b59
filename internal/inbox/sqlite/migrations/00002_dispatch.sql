-- +goose Up

-- When a pending delivery can be claimed: 0 at once, 1 when those of its device before it have ended, 2 at due_at, or sooner when the
-- handler works again, 3 not before due_at.
ALTER TABLE delivery ADD COLUMN wait INTEGER NOT NULL DEFAULT 0;
-- What a handler that asks for order keeps in order: a number made of the device or the RequestId. 0: no order, or no longer in it.
ALTER TABLE delivery ADD COLUMN order_key INTEGER NOT NULL DEFAULT 0;
-- Who discarded a dead letter; state 3 is discarded.
ALTER TABLE delivery ADD COLUMN settled_by TEXT NOT NULL DEFAULT '';
-- What was tried and failed waits, and so do replays, which come after all else.
UPDATE delivery SET wait = 2 WHERE state = 0 AND (attempts > 0 OR replay > 0);

-- Claims go by seq, which is the order of arrival, and not by due_at: after an outage, retries are due in any order.
DROP INDEX delivery_due;
CREATE INDEX delivery_pending ON delivery (handler, wait, seq, replay) WHERE state = 0;
CREATE INDEX delivery_waiting ON delivery (handler, (replay > 0), due_at) WHERE state = 0 AND wait >= 2;
CREATE INDEX delivery_lane ON delivery (handler, order_key, seq) WHERE order_key <> 0;
-- Dead letters are listed by seq, of all handlers or of one.
CREATE INDEX delivery_dead_seq ON delivery (seq, handler, replay) WHERE state = 2;

ALTER TABLE handler ADD COLUMN in_order INTEGER NOT NULL DEFAULT 0; -- 0 none, 1 block, 2 bury
ALTER TABLE handler ADD COLUMN paused_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE handler ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';

-- Replays by the IDs that operators gave them, so that none is scheduled twice. The digest is of the request, which may name a device.
CREATE TABLE replay (
  number       INTEGER PRIMARY KEY,
  id           TEXT    NOT NULL UNIQUE,
  digest       BLOB    NOT NULL,
  requested_at INTEGER NOT NULL,
  last_seq     INTEGER NOT NULL, -- of the inbox when it was requested: what arrives later is not replayed
  cursor       INTEGER NOT NULL, -- the entries up to it are scheduled
  entries      INTEGER NOT NULL,
  deliveries   INTEGER NOT NULL,
  finished_at  INTEGER NOT NULL  -- 0: not all of it is scheduled
);
