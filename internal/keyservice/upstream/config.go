package upstream

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Config is another KMS v2 plugin on the same host, such as the one that a vendor delivers, used as a key.
type Config struct {
	// The absolute path of the Unix socket that the other plugin serves, at most 106 bytes, without `unix://`. It must not
	// be the socket of this daemon, which would then wait for itself. The plugin may start later and may be restarted at
	// any time.
	Socket string `yaml:"socket" required:"true"`
}

// ID returns the name of the key in envelopes, logs and metrics. Sockets move, so theirs is not in it. A second plugin in
// one configuration needs an `id` of its own.
func (c Config) ID() string { return "upstream" }

// maxSocket is the size in bytes of the longest path that every kernel takes for a socket: see unix(7).
const maxSocket = 106

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	switch {
	case strings.HasPrefix(c.Socket, "unix:"):
		report("socket", "is a URL: write the path alone, without unix://")
	case !filepath.IsAbs(c.Socket) || filepath.Clean(c.Socket) != c.Socket || strings.ContainsRune(c.Socket, 0):
		report("socket", "is no plain absolute path: write it from the root, without //, /./, /../ and a / at the end")
	case len(c.Socket) > maxSocket:
		report("socket", fmt.Sprintf("has %d bytes, of at most %d that the path of a socket may have: use a shorter one",
			len(c.Socket), maxSocket))
	}
}

// check is Validate for callers that did not decode c from a document.
func (c *Config) check() error {
	var problem error
	c.Validate(func(field, text string) { problem = errors.New(field + " " + text) })
	return problem
}
