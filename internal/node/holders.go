package node

import "github.com/asmtp/asmtp/envelope"

// holders counts the members that said they store an envelope. One whose certificate has
// ended is no member any more: it is not asked for proofs, and nobody gets mail from it.
func (n *Node) holders(id envelope.ID) (count int, err error) {
	keys, err := n.store.Holders(id)
	if err != nil {
		return 0, err
	}
	set, now, self := n.membership.Load().set, n.time(), n.ID()
	for _, key := range keys {
		if _, certified := set.Certificate(key, now); certified && key != self {
			count++
		}
	}
	return count, nil
}
