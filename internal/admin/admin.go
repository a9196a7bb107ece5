// Package admin is how the operator's tool speaks to the daemon of its node: JSON over HTTP, on a Unix socket beside the API
// server's that only root and the daemon's own user may connect to.
//
// It holds what both sides have to agree on, and the tool's side. It retries nothing.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// The paths, all of them for POST.
const (
	LockdownPath = "/lockdown" // takes a lockdown.Note, answers a LockAnswer
	UnlockPath   = "/unlock"   // likewise

	AuditLogHeadPath = "/audit-log/head" // answers a head of the audit log, which is secret
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// Socket returns the path of the admin socket that belongs to the API server's.
func Socket(kms string) string { return kms + ".admin" }

// LockAnswer is what LockdownPath and UnlockPath answer.
type LockAnswer struct {
	Locked bool     `json:"locked"`
	Seen   bool     `json:"seen"`             // the daemon sees a marker, and not only the request
	Marker []string `json:"marker"`           // where the daemon looks
	Failed string   `json:"failed,omitempty"` // what could not be wiped
}

// Post sends request to a path on the socket, and reads the answer, both of which may be nil. It takes as long as ctx lasts.
func Post(ctx context.Context, socket, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	call.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	response, err := transport.RoundTrip(call)
	if err != nil {
		return fmt.Errorf("asking the daemon: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("asking the daemon: %w", err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("asking the daemon: it answers %s: %s", response.Status, strings.TrimSpace(string(content)))
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return errors.Join(errors.New("asking the daemon: its answer is no JSON that this release knows"), err)
	}
	return nil
}
