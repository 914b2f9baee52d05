package account

// schemaVersion is kept as SQLite's user_version. A database of a higher one is refused.
const schemaVersion = 4

// schema is the database of version 4, of which migrate.go makes older ones. Times are
// Unix milliseconds, except stamps and what is part of an envelope.
const schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;

-- The nodes, with where this device stands in the mailbox of each. position: in the
-- order of connecting, from 1; null for one that was named for one command only.
CREATE TABLE nodes (
  key BLOB PRIMARY KEY, address TEXT NOT NULL,
  generation BLOB NOT NULL DEFAULT x'', number INTEGER NOT NULL DEFAULT 0,
  passport_generation BLOB NOT NULL DEFAULT x'', passport_number INTEGER NOT NULL DEFAULT 0,
  published BLOB NOT NULL DEFAULT x'', -- generation and tip of the own passport that it has
  position INTEGER, last_sync INTEGER NOT NULL DEFAULT 0, problem TEXT NOT NULL DEFAULT '',
  mail_limit INTEGER NOT NULL DEFAULT 0, retention INTEGER NOT NULL DEFAULT 0, -- bytes and seconds; 0: not told yet
  small INTEGER NOT NULL DEFAULT 0 -- as number, for the smaller size classes, which come first
) WITHOUT ROWID;

-- Every passport of the mesh: since no single one is ever asked for, all are kept.
CREATE TABLE passports (id BLOB PRIMARY KEY, export BLOB NOT NULL);

-- mac: see contactMAC. tip: the newest block that was seen of the contact.
CREATE TABLE contacts (
  id BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, verified INTEGER NOT NULL,
  tip BLOB NOT NULL, added INTEGER NOT NULL, mac BLOB NOT NULL
);

-- Slow to derive, so kept.
CREATE TABLE topics (own BLOB, peer BLOB, topic BLOB NOT NULL, PRIMARY KEY (own, peer)) WITHOUT ROWID;

-- What each node was told to recognise, under handles of its own: with the same handle
-- two nodes could find out that they serve one user. generation: in which the node knows
-- it, x'' for not yet.
CREATE TABLE tagkeys (
  handle BLOB PRIMARY KEY, peer BLOB NOT NULL, own_key BLOB NOT NULL, peer_key BLOB NOT NULL,
  epoch INTEGER NOT NULL, generation BLOB NOT NULL DEFAULT x'', gone INTEGER NOT NULL DEFAULT 0,
  node BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE UNIQUE INDEX tagkeys_pair ON tagkeys (node, peer, own_key, peer_key, epoch) WHERE gone = 0;

-- Mail, received (folder 0), sent (folder 1) and filed by a program (folder 2). id is null
-- until it is complete. deleted: it has no place; read: it was seen once.
CREATE TABLE mails (
  n INTEGER PRIMARY KEY, id BLOB UNIQUE, folder INTEGER NOT NULL, sender BLOB NOT NULL,
  mail_id BLOB NOT NULL, body_hash BLOB NOT NULL, flags INTEGER NOT NULL, total INTEGER NOT NULL,
  count INTEGER NOT NULL, have INTEGER NOT NULL, certain INTEGER NOT NULL, received INTEGER NOT NULL,
  notice INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL DEFAULT 0, subject TEXT NOT NULL DEFAULT '', date INTEGER NOT NULL DEFAULT 0,
  attachments INTEGER NOT NULL DEFAULT 0, message_id TEXT NOT NULL DEFAULT '',
  claimed TEXT NOT NULL DEFAULT '', -- whom a filed mail says to be from
  UNIQUE (folder, sender, mail_id, body_hash)
);
CREATE INDEX mails_message_id ON mails (message_id) WHERE folder > 0 AND message_id <> '';
-- A mail's body as its parts carry it.
CREATE TABLE body (
  mail INTEGER NOT NULL REFERENCES mails (n) ON DELETE CASCADE, idx INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (mail, idx)
);
-- Which mails were taken in for good and how they were answered. expires, sealing: the
-- latest sealing that was answered, see sealing.
CREATE TABLE seen (
  sender BLOB, mail_id BLOB, body_hash BLOB, code INTEGER NOT NULL, until INTEGER NOT NULL,
  expires INTEGER NOT NULL DEFAULT 0, sealing BLOB NOT NULL DEFAULT x'',
  PRIMARY KEY (sender, mail_id, body_hash)
) WITHOUT ROWID;
` + mailboxSchema + `
-- A sent mail on its way to one recipient.
CREATE TABLE outgoing (
  n INTEGER PRIMARY KEY, mail INTEGER NOT NULL REFERENCES mails (n), mail_id BLOB NOT NULL, body_hash BLOB NOT NULL,
  recipient BLOB NOT NULL, created INTEGER NOT NULL, lifetime_end INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7), since INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '', next INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
  offered INTEGER NOT NULL DEFAULT 0, -- the node may have all of it
  sealed_for BLOB NOT NULL DEFAULT x'', -- both shared keys its parts are sealed with
  expires INTEGER NOT NULL DEFAULT 0,
  delayed INTEGER NOT NULL DEFAULT 0, -- which notices were given, see age.go
  notify INTEGER NOT NULL DEFAULT 0, envid TEXT NOT NULL DEFAULT '', orcpt TEXT NOT NULL DEFAULT '', -- RFC 3461
  sealing BLOB NOT NULL DEFAULT x'', -- what its envelopes are made of again, see sealing.go
  UNIQUE (mail_id, recipient)
);
CREATE INDEX outgoing_due ON outgoing (state, next);
CREATE INDEX outgoing_mail ON outgoing (mail);
-- The envelopes of a mail as it was sealed last: their ids. Earlier builds kept those of small
-- mail that is not settled.
CREATE TABLE outparts (
  outgoing INTEGER NOT NULL REFERENCES outgoing (n) ON DELETE CASCADE, idx INTEGER NOT NULL,
  id BLOB NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (outgoing, idx)
) WITHOUT ROWID;
-- How many members hold all envelopes of a mail, as each node said last.
CREATE TABLE custody (
  outgoing INTEGER NOT NULL REFERENCES outgoing (n) ON DELETE CASCADE, node BLOB NOT NULL,
  held INTEGER NOT NULL, PRIMARY KEY (outgoing, node)
) WITHOUT ROWID;
CREATE TABLE history (
  outgoing INTEGER NOT NULL REFERENCES outgoing (n) ON DELETE CASCADE, state INTEGER NOT NULL,
  held INTEGER NOT NULL, time INTEGER NOT NULL, note TEXT NOT NULL
);
CREATE INDEX history_of ON history (outgoing);
-- The second line of defence behind State.Next.
CREATE TRIGGER forward BEFORE UPDATE OF state ON outgoing
WHEN NEW.state < OLD.state OR (OLD.state = 1 AND NEW.state <> 1) OR (NEW.state = 1 AND OLD.state > 1)
BEGIN SELECT RAISE(ABORT, 'the state of a mail never moves back'); END;

-- Answers that are on their way; batch is null until they are sealed.
CREATE TABLE receipts (
  n INTEGER PRIMARY KEY, peer BLOB NOT NULL, mail_id BLOB NOT NULL, body_hash BLOB NOT NULL,
  code INTEGER NOT NULL, batch INTEGER REFERENCES batches (n) ON DELETE CASCADE,
  created INTEGER NOT NULL DEFAULT 0,
  UNIQUE (peer, mail_id, body_hash, code)
);
-- Envelopes of answers. accepted: when a node took it, 0 for not yet; next: when it is
-- handed over (again).
CREATE TABLE batches (
  n INTEGER PRIMARY KEY, expires INTEGER NOT NULL, envelope BLOB NOT NULL,
  id BLOB NOT NULL DEFAULT x'', peer BLOB NOT NULL DEFAULT x'', sealed_for BLOB NOT NULL DEFAULT x'',
  accepted INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX receipts_batch ON receipts (batch);

-- Mailbox numbers that are taken in and not acknowledged yet.
CREATE TABLE acks (node BLOB NOT NULL, generation BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (node, generation, number)) WITHOUT ROWID;
-- What a newer program will understand, still sealed.
CREATE TABLE kept (id BLOB PRIMARY KEY, peer BLOB NOT NULL, envelope BLOB NOT NULL, received INTEGER NOT NULL);
-- Second chains of passports: the one seen first is in force, this is the proof.
CREATE TABLE forks (id BLOB PRIMARY KEY, export BLOB NOT NULL, seen INTEGER NOT NULL);
`

// mailboxSchema is what came with version 3: what mail programs see.
const mailboxSchema = `
-- forgotten: up to that change removed places are not remembered any more.
CREATE TABLE folders (
  n INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, special TEXT NOT NULL DEFAULT '',
  uid_validity INTEGER NOT NULL, uid_next INTEGER NOT NULL DEFAULT 1, forgotten INTEGER NOT NULL DEFAULT 0,
  last_given INTEGER NOT NULL DEFAULT 0 -- when it got its latest UID, in seconds
);
-- Mails without a place: what of them is not needed any more is looked for often.
CREATE INDEX mails_placeless ON mails (deleted) WHERE deleted = 1;
-- Names, also of folders that are there no more.
CREATE TABLE subscriptions (name TEXT PRIMARY KEY) WITHOUT ROWID;
-- Where mails are. id and size are those of the mail; changed: see changes.go.
CREATE TABLE places (
  folder INTEGER NOT NULL REFERENCES folders (n) ON DELETE CASCADE, uid INTEGER NOT NULL,
  mail INTEGER NOT NULL REFERENCES mails (n), id BLOB NOT NULL, flags INTEGER NOT NULL DEFAULT 0,
  keywords TEXT NOT NULL DEFAULT '', date INTEGER NOT NULL, size INTEGER NOT NULL, changed INTEGER NOT NULL,
  PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE INDEX places_mail ON places (mail);
CREATE INDEX places_changed ON places (folder, changed);
CREATE TABLE expunged (
  folder INTEGER NOT NULL REFERENCES folders (n) ON DELETE CASCADE, changed INTEGER NOT NULL, uid INTEGER NOT NULL,
  PRIMARY KEY (folder, changed, uid)
) WITHOUT ROWID;
-- What programs are shown of a mail: the header, and the message after its first bytes.
CREATE TABLE shown (
  mail INTEGER PRIMARY KEY REFERENCES mails (n) ON DELETE CASCADE, header BLOB NOT NULL, skip INTEGER NOT NULL
);
-- What the index of texts lacks yet.
CREATE TABLE unindexed (mail INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE search USING fts5 (text, content='', contentless_delete=1, detail=none, tokenize='trigram');
-- Passwords of mail programs.
CREATE TABLE passwords (name TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
`
