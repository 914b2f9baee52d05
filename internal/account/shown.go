package account

import (
	"context"
	"database/sql"

	"github.com/asmtp/asmtp/internal/message"
)

// asReader returns an address as it is shown on this device: with the petname of who is
// known, where that can stand in any program's address.
func (d *directory) asReader(m message.Address) message.Address {
	_, id, ok := localPart(m.Addr)
	if !ok || id.IsZero() {
		return m
	}
	p := d.byID[id]
	if p == nil {
		return m
	}
	if m.Name == "" {
		m.Name = p.name
	}
	for i := range len(p.name) {
		if p.name[i] >= 0x80 {
			return m // not every program takes such an address
		}
	}
	m.Addr = p.name + "@" + domain
	return m
}

// keepShown keeps the header with which a mail is presented, in place of the first skip
// bytes of the message, and returns the size of the message as presented.
func keepShown(ctx context.Context, tx *sql.Tx, mail int64, header []byte, skip int, size int64) (int64, error) {
	_, err := tx.ExecContext(ctx, "INSERT INTO shown (mail, header, skip) VALUES (?, ?, ?)", mail, header, skip)
	return size - int64(skip) + int64(len(header)), err
}

// showArrived makes and keeps the header of a mail that arrived.
func (a *Account) showArrived(ctx context.Context, tx *sql.Tx, dir *directory, m *arrival, id MailID, c *contents) (int64, error) {
	header := message.Arrived(c.head, message.Arrival{
		From: message.Address{Addr: idAddress(m.from.id)}, Certain: m.certain, Received: a.now(),
		MessageID: id.String() + "@" + domain, Show: dir.asReader,
	})
	return keepShown(ctx, tx, m.mail, header, len(c.head), c.size)
}
