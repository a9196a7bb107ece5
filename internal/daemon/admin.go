package daemon

import (
	"context"
	"encoding/json"
	"net"
	"net/http"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/socket"
)

// maxAdminRequest bounds the body of a request on the admin socket, in bytes.
const maxAdminRequest = 64 << 10

// listenAdmin listens for the operator's tool: for root and the daemon's own user, whatever the API server's socket allows.
// It comes after listen, which takes the socket that systemd may have passed.
func (d *daemon) listenAdmin() (net.Listener, error) {
	return socket.Listen(socket.Config{Path: admin.Socket(d.config.Socket.Path)}, d.log)
}

// serveAdmin serves the operator's tool until ctx ends.
func (d *daemon) serveAdmin(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+admin.LockdownPath, d.lockdown)
	mux.HandleFunc("POST "+admin.UnlockPath, d.unlock)
	mux.HandleFunc("POST "+admin.AuditLogHeadPath, d.exportHead)
	return serveHTTP(ctx, listener, mux, "the admin socket")
}

// requested reads the body of a request into v, or answers that it cannot.
func requested(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminRequest)).Decode(v)
	if err != nil {
		http.Error(w, "reading the request: "+err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

// answer answers a request on the admin socket.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has asked is gone
}
