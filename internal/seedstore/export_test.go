package seedstore

// Occupied counts the places whose memory is not zero.
func (s *Store) Occupied() (count int) {
	_ = s.memory.Use(func(memory []byte) error {
		for i := range s.places {
			for _, b := range slot(memory, i) {
				if b != 0 {
					count++
					break
				}
			}
		}
		return nil
	})
	return count
}
