package kms

// Notice is an event of the Plugin's own making that belongs in an audit log: no caller asked for it.
type Notice struct {
	Event    Event
	KeyID    string // that it is about
	Previous string // of KeyIDChanged: what was announced before, or ""
}

// Event says what happened.
type Event string

const (
	// KeyIDChanged: another key id is announced.
	KeyIDChanged Event = "key-id"
	// ColdStartWrap: the spare root was used up, because too few keys answered.
	ColdStartWrap Event = "cold-start-wrap"
	// ColdStartOpen: a kept seed answered an open, because too few keys answered.
	ColdStartOpen Event = "cold-start-open"
)
