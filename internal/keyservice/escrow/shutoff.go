package escrow

// ShutOff returns that there is nothing to stop.
func (c Config) ShutOff() string {
	return "# Nothing to do: it only wraps. It opens with the identity files of its recipients, which belong on no node.\n"
}
