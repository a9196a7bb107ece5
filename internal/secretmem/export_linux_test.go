package secretmem

// NewPrivate returns a Buffer as New does where the kernel has no memfd_secret.
func NewPrivate(size int) (*Buffer, error) {
	pages, protection, err := privatePages(wholePages(size))
	if err != nil {
		return nil, err
	}
	return &Buffer{at: &place{pages}, size: size, protection: protection}, nil
}
