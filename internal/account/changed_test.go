package account

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
)

func TestChangesOf(t *testing.T) {
	for query, want := range map[string]changes{
		"SELECT n FROM outgoing WHERE n = ?":                      0,
		"SAVEPOINT one":                                           0,
		"UPDATE outgoing SET next = ? WHERE n = ?":                changedOutbox,
		"INSERT OR IGNORE INTO unindexed VALUES (?)":              changedIndex,
		"INSERT INTO custody SELECT outgoing, ?, ? FROM outparts": changedOutbox,
		"DELETE FROM batches WHERE n = ? AND id = ?":              changedReceipts,
		"INSERT INTO places (folder, uid) VALUES (?, ?)":          changedFolders,
		"UPDATE nodes\nSET number = 1":                            changedNodes,
		"INSERT OR REPLACE INTO seen VALUES (?, ?)":               changedOther,
		"UPDATE":                                changedAll,
		"CREATE TABLE x (y); DELETE FROM nodes": changedAll,
		"WITH x AS (SELECT 1) UPDATE outgoing SET next = (SELECT 1)": changedAll,
	} {
		if got := changesOf(query); got != want {
			t.Errorf("%q changes %b, want %b", query, got, want)
		}
	}
}

// A write wakes those who wait for what it changed, and nobody else; one that is rolled
// back wakes nobody.
func TestWriteWakesWhoWaits(t *testing.T) {
	ctx := context.Background()
	a, err := Create(ctx, filepath.Join(t.TempDir(), "alice"), "alice", Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	outbox, answers, anything := a.change(changedOutbox), a.change(changedReceipts|changedPeers), a.Changed()
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	write := func(query string, args ...any) error {
		return a.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
	}
	if err := write("INSERT INTO batches (expires, envelope, nothing) VALUES (?, ?)", 1, 2); err == nil {
		t.Fatal("there is a column nothing")
	}
	if err := write("DELETE FROM batches WHERE n = ? AND nothing()", 1); err == nil {
		t.Fatal("there is a function nothing")
	}
	if woken(answers) || woken(anything) {
		t.Error("a failed write woke somebody")
	}
	if err := write("UPDATE outgoing SET next = ? WHERE n = ?", 1, 2); err != nil {
		t.Fatal(err)
	}
	if !woken(outbox) || !woken(anything) {
		t.Error("who waits for the outbox was not woken")
	}
	if woken(answers) {
		t.Error("who waits for answers was woken")
	}
	// Without arguments the driver executes it in another way.
	if err := write("DELETE FROM contacts"); err != nil {
		t.Fatal(err)
	}
	if !woken(answers) {
		t.Error("who waits for contacts was not woken")
	}
}
