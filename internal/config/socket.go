package config

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Socket is the Unix socket on which the API server calls the daemon. Who can connect to it can have anything opened
// that the keys open, so it lets in as few as possible.
type Socket struct {
	// The absolute path of the socket, at most 100 bytes. The same path, after unix://, is the endpoint in the
	// EncryptionConfiguration. Its directory should belong to root; for an API server in a static pod, mount the
	// directory rather than the socket, because the socket is made anew at every start. Beside it the daemon makes a second
	// one, with .admin at the end of its name, for `trousseau lockdown` and its like.
	Path string `yaml:"path" default:"/run/trousseau/kms.sock" pattern:"^/[^\\x00]{1,99}$" says:"absolute, at most 100 bytes"`

	// The permissions of the socket, in octal and in quotes. Connecting takes the permission to write. "0600" is for an
	// API server that runs as root or as the daemon's user; "0660" with a group is for one that runs as another user.
	// Permissions for everybody are refused.
	Mode Mode `yaml:"mode" default:"0600" pattern:"^0?[0-7]{3}$" says:"an octal mode in quotes, such as \"0660\""`

	// The name or number (in quotes) of the group that owns the socket. It needs a mode that lets the group write.
	// Without one it is the daemon's own group.
	Group string `yaml:"group,omitempty"`

	// The numeric ids of the users that may connect, as the kernel vouches for them (SO_PEERCRED); all others are turned
	// away whatever the mode says. Empty means root and the daemon's own user. An API server in a container with a user
	// namespace of its own shows under its id outside of the container.
	AllowUIDs []uint32 `yaml:"allowUIDs,omitempty"`

	// How many calls are worked on at the same time, from 1 to 10000. More wait for their turn as long as the API
	// server waits for its answer (the timeout in its EncryptionConfiguration, 3 seconds by default). An API server that
	// starts opens one data key for each of its earlier starts, many of them at once.
	MaxCalls int `yaml:"maxCalls" default:"64" min:"1" max:"10000"`
}

// Validate checks what the fields must be together.
func (s *Socket) Validate(report func(field, problem string)) {
	if filepath.Clean(s.Path) != s.Path {
		report("path", "must be written without //, /./, /../ and a / at the end")
	}
	if s.Group != "" && s.Mode&0o020 == 0 {
		report("group", fmt.Sprintf("has no effect with mode %q: set mode to \"0660\", or remove group", s.Mode))
	}
}

// Mode is the permissions of a file.
type Mode fs.FileMode

// String returns the mode in octal, as the document has it.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText is String for encoders.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads three or four octal digits that let the owner connect and others do nothing.
func (m *Mode) UnmarshalText(text []byte) error {
	bits, err := strconv.ParseUint(string(text), 8, 12)
	switch {
	case err != nil || bits > 0o777:
		return fmt.Errorf("must be an octal mode such as \"0660\", not %s", strictyaml.Quote(string(text)))
	case bits&0o007 != 0:
		return fmt.Errorf("must not let everybody in, as %q does: use \"0600\", or \"0660\" with group", text)
	case bits&0o600 != 0o600:
		return fmt.Errorf("must let the owner read and write, which %q does not: use \"0600\" or \"0660\"", text)
	}
	*m = Mode(bits)
	return nil
}
