package account

import (
	"database/sql"
	"testing"
)

// Indexing makes way for mail, and does not take its own work for it.
func TestIndexingMakesWay(t *testing.T) {
	ctx := t.Context()
	a, err := Create(ctx, t.TempDir(), "alice", Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	err = a.write(ctx, func(tx *sql.Tx) error {
		for n := range int64(3 * indexBatch) {
			if err := toIndex(ctx, tx, n+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		if err := a.db.QueryRowContext(ctx, "SELECT count(*) FROM unindexed").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	came := make(chan struct{})
	close(came)
	if err := a.indexPending(ctx, came); err != nil || left() != 3*indexBatch {
		t.Errorf("%d are left with mail to be taken in, %v", left(), err)
	}
	changed := a.change(changedIndex)
	if err := a.indexPending(ctx, changed); err != nil || left() != 0 || isClosed(changed) {
		t.Errorf("%d are left; told of its own work: %v; %v", left(), isClosed(changed), err)
	}
}
