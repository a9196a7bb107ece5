package coldstart

// Reencode encodes again what it parses.
func Reencode(data []byte) ([]byte, error) {
	f, err := parse(data)
	if err != nil {
		return nil, err
	}
	header, err := f.header()
	return append(header, f.sealed...), err
}
