package account

import "strings"

// changes is a set of what loops wait for, by the tables that they look at.
type changes uint32

const (
	changedOutbox    changes = 1 << iota // mail on its way, and who has it
	changedDue                           // mail is to be sent
	changedFresh                         // so is mail that just entered the outbox, see fresh.go
	changedLarge                         // large mail is to be sent
	changedReceipts                      // answers to be sent
	changedPeers                         // contacts, passports, keys
	changedNodes                         // nodes
	changedFolders                       // which mails stand where
	changedIndex                         // what is not indexed
	changedPasswords                     // of mail programs
	changedOther
	// changedLater is for who need not know at once: see watchOthers.
	changedLater

	changedAll = changedLater<<1 - 1
)

// tableChanges says who looks at a table; of others it is [changedOther].
var tableChanges = map[string]changes{
	"outgoing": changedOutbox, "outparts": changedOutbox, "custody": changedOutbox,
	"receipts": changedReceipts, "batches": changedReceipts,
	"contacts": changedPeers, "passports": changedPeers, "tagkeys": changedPeers,
	"nodes":   changedNodes,
	"folders": changedFolders, "places": changedFolders, "expunged": changedFolders, "mails": changedFolders,
	"unindexed": changedIndex, "passwords": changedPasswords,
}

// statementChanges are those of statements that change more, or less, than their table says,
// by how they begin.
var statementChanges = map[string]changes{
	"INSERT INTO outgoing":           changedOutbox, // and what enqueueFor says
	"UPDATE outgoing SET next = 0":   changedOutbox | changedDue,
	"UPDATE nodes SET number = CASE": changedOther, // the place in its mailbox
	"DELETE FROM unindexed":          changedOther, // there is less to be done
}

// changesOf returns what a statement changes, which it says at its beginning.
func changesOf(query string) changes {
	for begin, c := range statementChanges {
		if strings.HasPrefix(query, begin) && !strings.Contains(query, ";") {
			return c
		}
	}
	if strings.Contains(query, ";") {
		return changedAll
	}
	words := strings.Fields(query[:min(len(query), 100)])
	for i, w := range words[:min(len(words), 5)] {
		switch {
		case i == 0 && (w == "SELECT" || w == "PRAGMA" || w == "SAVEPOINT" || w == "RELEASE" || w == "ROLLBACK"):
			return 0
		case w == "INTO" || w == "FROM" || w == "UPDATE":
			if i+1 == len(words) {
				return changedAll
			}
			if c, ok := tableChanges[words[i+1]]; ok {
				return c
			}
			return changedOther
		}
	}
	return changedAll
}

// touch notes what the transaction changes that is being written.
func (a *Account) touch(c changes) { a.touched.Or(uint32(c)) }

// notify wakes those who wait for one of the changes.
func (a *Account) notify(c changes) {
	if c&changedPeers != 0 {
		a.peersChanged.Add(1)
	}
	a.changed.Lock()
	defer a.changed.Unlock()
	for wanted, waiting := range a.changed.waiting {
		if wanted&c != 0 {
			close(waiting)
			delete(a.changed.waiting, wanted)
		}
	}
}

// change returns a channel that is closed at the next of the changes, made by this process
// or, while it follows its nodes, by another one.
func (a *Account) change(wanted changes) <-chan struct{} {
	a.changed.Lock()
	defer a.changed.Unlock()
	c := a.changed.waiting[wanted]
	if c == nil {
		c = make(chan struct{})
		a.changed.waiting[wanted] = c
	}
	return c
}

// Changed returns a channel that is closed at the next change of anything in the account
// by this process or, while it follows its nodes, by another one.
func (a *Account) Changed() <-chan struct{} { return a.change(changedAll) }

// FoldersChanged is Changed for the folders and what stands in them.
func (a *Account) FoldersChanged() <-chan struct{} { return a.change(changedFolders) }

// PasswordsChanged is Changed for the passwords of mail programs.
func (a *Account) PasswordsChanged() <-chan struct{} { return a.change(changedPasswords) }
