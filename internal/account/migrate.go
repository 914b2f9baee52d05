package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// migrations make a database of version i+1 one of version i+2. One that was released is
// never changed.
var migrations = []string{
	`-- from 1 to 2: several nodes, retried receipts, holders by node
ALTER TABLE nodes ADD COLUMN position INTEGER;
ALTER TABLE nodes ADD COLUMN last_sync INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN problem TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN mail_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN retention INTEGER NOT NULL DEFAULT 0;
UPDATE nodes SET position = 1 WHERE key = (SELECT value FROM meta WHERE key = 'node');
DELETE FROM meta WHERE key IN ('node', 'limits');

-- A key belongs to the node whose generation it was registered in.
DROP INDEX tagkeys_pair;
ALTER TABLE tagkeys ADD COLUMN node BLOB NOT NULL DEFAULT x'';
UPDATE tagkeys SET node = coalesce((SELECT key FROM nodes WHERE nodes.generation = tagkeys.generation),
  (SELECT key FROM nodes WHERE position = 1), x'');
DELETE FROM tagkeys WHERE node = x'';
CREATE UNIQUE INDEX tagkeys_pair ON tagkeys (node, peer, own_key, peer_key, epoch) WHERE gone = 0;

ALTER TABLE seen ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE seen ADD COLUMN sealing BLOB NOT NULL DEFAULT x'';
ALTER TABLE outgoing ADD COLUMN delayed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE custody (
  outgoing INTEGER NOT NULL REFERENCES outgoing (n) ON DELETE CASCADE, node BLOB NOT NULL,
  held INTEGER NOT NULL, PRIMARY KEY (outgoing, node)
) WITHOUT ROWID;

-- What is sealed and not handed over yet is sealed anew; it is known by its contents.
UPDATE receipts SET batch = NULL;
DROP TABLE batches;
ALTER TABLE receipts ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
UPDATE receipts SET created = unixepoch() * 1000;
CREATE TABLE batches (
  n INTEGER PRIMARY KEY, expires INTEGER NOT NULL, envelope BLOB NOT NULL,
  id BLOB NOT NULL DEFAULT x'', peer BLOB NOT NULL DEFAULT x'', sealed_for BLOB NOT NULL DEFAULT x'',
  accepted INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX receipts_batch ON receipts (batch);
CREATE TABLE forks (id BLOB PRIMARY KEY, export BLOB NOT NULL, seen INTEGER NOT NULL);
`,
	`-- from 2 to 3: folders; afterSchema3 fills them
DROP INDEX mails_list;
DROP TABLE search;
ALTER TABLE mails ADD COLUMN claimed TEXT NOT NULL DEFAULT '';
CREATE INDEX mails_message_id ON mails (message_id) WHERE folder > 0 AND message_id <> '';
ALTER TABLE outgoing ADD COLUMN notify INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outgoing ADD COLUMN envid TEXT NOT NULL DEFAULT '';
ALTER TABLE outgoing ADD COLUMN orcpt TEXT NOT NULL DEFAULT '';
ALTER TABLE outgoing ADD COLUMN sealing BLOB NOT NULL DEFAULT x'';
ALTER TABLE nodes ADD COLUMN small INTEGER NOT NULL DEFAULT 0;
UPDATE nodes SET small = number;
CREATE INDEX outgoing_mail ON outgoing (mail);
` + mailboxSchema,
	`-- from 3 to 4: one tree instead of three for the ids of what is on its way
DROP INDEX outparts_id;
ALTER TABLE outparts RENAME TO outparts_3;
CREATE TABLE outparts (
  outgoing INTEGER NOT NULL REFERENCES outgoing (n) ON DELETE CASCADE, idx INTEGER NOT NULL,
  id BLOB NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (outgoing, idx)
) WITHOUT ROWID;
INSERT INTO outparts SELECT outgoing, idx, id, envelope FROM outparts_3;
DROP TABLE outparts_3;
`,
}

// afterSchema3 makes the first folders and puts the mails into them, in the order in
// which they came.
func afterSchema3(ctx context.Context, tx *sql.Tx) error {
	if err := makeFirstFolders(ctx, tx, time.Now()); err != nil {
		return err
	}
	change, err := nextChange(ctx, tx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO places (folder, uid, mail, id, flags, date, size, changed)
		SELECT f.n, row_number() OVER (PARTITION BY f.n ORDER BY m.received, m.n), m.n, m.id, m.read, m.received, m.size, ?
		FROM mails m JOIN folders f ON f.name = CASE m.folder WHEN 0 THEN 'INBOX' ELSE 'Sent' END WHERE m.id IS NOT NULL AND m.deleted = 0`, change)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO unindexed SELECT DISTINCT mail FROM places"); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE folders SET uid_next = coalesce((SELECT max(uid) FROM places p WHERE p.folder = folders.n), 0) + 1,
		last_given = CASE WHEN EXISTS (SELECT 1 FROM places p WHERE p.folder = folders.n) THEN uid_validity ELSE 0 END`)
	return err
}

// copyName is where the database of an older version is kept when it is migrated.
func copyName(path string, version int) string { return fmt.Sprintf("%s.version%d", path, version) }

// migrate brings a database up to date, after a copy of its file was made. Other
// processes wait; one that runs an older program fails from then on.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	defer conn.Close()
	for {
		done, err := migrateOnce(ctx, conn, path)
		if err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		if done {
			return nil
		}
	}
}

// migrateOnce returns false if another process wrote in between. Only while the write
// lock is held and nothing is in the write-ahead log is the file all of the database,
// and does no checkpoint of another process change it.
func migrateOnce(ctx context.Context, conn *sql.Conn, path string) (done bool, err error) {
	if _, err := conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return false, err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // does nothing after Commit
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, err
	}
	if version >= schemaVersion {
		return true, nil // another process was faster
	}
	if st, err := os.Stat(path + "-wal"); err == nil && st.Size() > 0 {
		return false, ctx.Err()
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := copyFile(path, copyName(path, version)); err != nil {
		return false, fmt.Errorf("keep a copy: %w", err)
	}
	for _, step := range migrations[version-1:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return false, err
		}
	}
	if version < 3 {
		if err := afterSchema3(ctx, tx); err != nil {
			return false, err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version=%d", schemaVersion)); err != nil {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return false, err
	}
	return true, removeOldCopies(path, version)
}

// copyFile makes a durable copy, mode 0600, that is there whole or not at all.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp, err := os.CreateTemp(filepath.Dir(to), ".copy-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, src)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// removeOldCopies leaves the copy of the version that was migrated from.
func removeOldCopies(path string, from int) error {
	for v := 1; v < from; v++ {
		if err := os.Remove(copyName(path, v)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old copy of the database: %w", err)
		}
	}
	return nil
}
