package store

import "bytes"

// change sets a record, or deletes it if value is nil.
type change struct{ key, value []byte }

// changes is what one write sets and deletes, each key once. Most writes are of a handful
// of records, in which looking at each is cheaper than a map.
type changes struct {
	list []change
	at   map[string]int // places in list, once it is longer than changesSearched
}

const changesSearched = 8

func (c *changes) find(key []byte) (int, bool) {
	if c.at != nil {
		i, ok := c.at[string(key)]
		return i, ok
	}
	for i := range c.list {
		if bytes.Equal(c.list[i].key, key) {
			return i, true
		}
	}
	return 0, false
}

// put keeps key and value.
func (c *changes) put(key, value []byte) {
	if i, ok := c.find(key); ok {
		c.list[i].value = value
		return
	}
	c.list = append(c.list, change{key, value})
	switch {
	case c.at != nil:
		c.at[string(key)] = len(c.list) - 1
	case len(c.list) > changesSearched:
		c.at = make(map[string]int, 4*changesSearched)
		for i := range c.list {
			c.at[string(c.list[i].key)] = i
		}
	}
}

// reset empties c and keeps the memory of its list, for the next write.
func (c *changes) reset() {
	clear(c.list)
	c.list, c.at = c.list[:0], nil
}
