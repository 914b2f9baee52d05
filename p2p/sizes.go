package p2p

import (
	"bytes"

	"github.com/asmtp/asmtp/envelope"
)

// scanInstead is from how many ids on the whole index is read rather than looked into
// for each.
const scanInstead = 2048

// withClasses adds to ids of which size class they are, and leaves out what is not
// stored any more.
func (h *Host) withClasses(ids []envelope.ID) (items []offered, err error) {
	if len(ids) >= scanInstead {
		return h.scanClasses(ids)
	}
	for _, id := range ids {
		err := h.o.Spool.Envelopes(before(id), func(m envelope.Meta) bool {
			if m.ID == id {
				items = append(items, offered{id, classOf(m.Size)})
			}
			return bytes.Compare(m.ID[:], id[:]) < 0
		})
		if err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (h *Host) scanClasses(ids []envelope.ID) (items []offered, err error) {
	wanted := make(map[envelope.ID]struct{}, len(ids))
	for _, id := range ids {
		wanted[id] = struct{}{}
	}
	err = h.o.Spool.Envelopes(envelope.ID{}, func(m envelope.Meta) bool {
		if _, ok := wanted[m.ID]; ok {
			items = append(items, offered{m.ID, classOf(m.Size)})
		}
		return true
	})
	return items, err
}

// before returns the id in front of id.
func before(id envelope.ID) envelope.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// classOf returns the class of an envelope by its length, encoded or sealed.
func classOf(size int) int {
	for class, s := range envelope.Sizes {
		if size <= s+envelope.MaxSize-envelope.Sizes[largest] {
			return class
		}
	}
	return largest
}
