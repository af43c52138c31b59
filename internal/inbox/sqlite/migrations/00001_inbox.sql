-- +goose Up

-- Single values of the store: last_seq, replay, deliveries_held, corrupt.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- One row a callback. Times are microseconds since the epoch, UTC. The body has a table of its own, so that reading a
-- page of this one reads no bodies. A backup of any version is checked by seq, the columns from id to digest, and the bodies: no
-- later migration may change what those are.
CREATE TABLE entry (
  seq         INTEGER PRIMARY KEY,
  id          BLOB    NOT NULL,
  received_at INTEGER NOT NULL,
  service     TEXT    NOT NULL,
  kind        TEXT    NOT NULL,
  account     TEXT    NOT NULL,
  request_id  TEXT    NOT NULL,
  facts       TEXT    NOT NULL, -- JSON
  digest      BLOB    NOT NULL, -- of everything above but seq, and of the body
  -- What changes after arrival is not part of the digest.
  sightings   INTEGER NOT NULL DEFAULT 1,
  held        INTEGER NOT NULL DEFAULT 0, -- 1: in quarantine
  test        INTEGER NOT NULL DEFAULT 0,
  repeat_of   INTEGER NOT NULL DEFAULT 0,
  erased      INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entry_received ON entry (received_at);
CREATE INDEX entry_service ON entry (service);
-- These cost an ordinary callback nothing.
CREATE INDEX entry_held ON entry (seq) WHERE held = 1;
CREATE INDEX entry_test ON entry (seq) WHERE test = 1;
CREATE INDEX entry_seen ON entry (sightings) WHERE sightings > 1;

CREATE TABLE body (
  seq  INTEGER PRIMARY KEY,
  data BLOB NOT NULL
);

-- The keys that tell duplicates. The first eight bytes of a key depend on the RequestId alone, so this index also finds
-- entries by RequestId. Keys outlive their entries: the platform resends from its archive.
CREATE TABLE dedup (
  key BLOB    PRIMARY KEY,
  seq INTEGER NOT NULL,
  at  INTEGER NOT NULL
) WITHOUT ROWID;

-- Arrivals of an entry after the first, which is in the entry itself.
CREATE TABLE sighting (
  seq     INTEGER NOT NULL,
  n       INTEGER NOT NULL, -- from 2
  at      INTEGER NOT NULL,
  source  TEXT    NOT NULL,
  attempt INTEGER NOT NULL,
  PRIMARY KEY (seq, n)
) WITHOUT ROWID;

-- Identifiers in lower case, for finding and erasing a device.
CREATE TABLE device (
  identifier TEXT    NOT NULL,
  seq        INTEGER NOT NULL,
  PRIMARY KEY (identifier, seq)
) WITHOUT ROWID;

CREATE TABLE handler (
  id   INTEGER PRIMARY KEY,
  name TEXT    NOT NULL UNIQUE
);

CREATE TABLE delivery (
  seq        INTEGER NOT NULL,
  handler    INTEGER NOT NULL,
  replay     INTEGER NOT NULL,           -- 0: made by the arrival
  state      INTEGER NOT NULL DEFAULT 0, -- 0 pending, 1 done, 2 dead
  attempts   INTEGER NOT NULL DEFAULT 0,
  due_at     INTEGER NOT NULL,
  settled_at INTEGER NOT NULL DEFAULT 0,
  reason     TEXT    NOT NULL DEFAULT '',
  cause      TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY (seq, handler, replay)
) WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (handler, due_at, seq) WHERE state = 0;
CREATE INDEX delivery_dead ON delivery (handler, seq) WHERE state = 2;

-- Times at which a receiver ran on this store: what lies between them was not acknowledged.
CREATE TABLE run (
  id         INTEGER PRIMARY KEY,
  started_at INTEGER NOT NULL,
  alive_at   INTEGER NOT NULL,
  stopped_at INTEGER NOT NULL DEFAULT 0
);

-- Times at which a running receiver could not store.
CREATE TABLE outage (
  id      INTEGER PRIMARY KEY,
  from_at INTEGER NOT NULL,
  to_at   INTEGER NOT NULL,
  reason  TEXT    NOT NULL,
  refused INTEGER NOT NULL
);
