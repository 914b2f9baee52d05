package store

import "fmt"

// Space says how it stands with the disk.
type Space struct {
	Free    int64 // bytes that are free
	Reserve int64 // below it new envelopes are refused
	Floor   int64 // below it all writes are refused that are not needed to make room
}

// Space returns what is free on the disk of the store, and what is kept free.
func (s *Store) Space() (Space, error) {
	free, err := s.free()
	if err != nil {
		return Space{}, fmt.Errorf("free space of the store: %w", err)
	}
	return Space{Free: free, Reserve: s.reserve, Floor: s.floor}, nil
}
