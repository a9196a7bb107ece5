// Package release tells which release of Trousseau a program is.
package release

import "runtime/debug"

// version is set by the linker for releases.
var version string

// Version returns the release, such as "v1.2.3", or what is known of a build from a checkout.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
