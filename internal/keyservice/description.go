package keyservice

// Description is what the manual says of a key service, a few words each. The table in docs/keyservices/README.md is made
// of them.
type Description struct {
	Name           string // as the configuration calls it
	Service        string // as people call it
	Authentication string
	Versions       string // where version ids come from
	Tested         string // against what
	OnNode         bool   // the key is on the node itself, in a keystore: no server is needed
	WrapOnly       bool   // what it wraps is opened elsewhere
	Forms          []Form // the usual one first
}

// Form is one way in which a key service wraps. The conformance suite holds its sizes against what the service answers.
type Form struct {
	Algorithm string
	AAD       bool // the service authenticates associated data
	Version   int  // bytes that the id of a key's first version has
	Wrapped   int  // bytes that a wrapped share of 32 bytes has
}
