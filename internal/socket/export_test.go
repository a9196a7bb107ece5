package socket

import "log/slog"

// Admit is a gate's, for a test of its minutes that no real peer could wait for.
func Admit(cfg Config, log *slog.Logger) func(Peer) bool { return newGate(cfg, log).admit }
