package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/kms"
	"github.com/trousseau-io/trousseau/internal/socket"
)

// audit is the daemon's audit log. One that has none does nothing.
type audit struct {
	log    *auditlog.Log // nil if there is none
	denied *auditlog.Denied
	block  bool // a call whose line cannot be written is refused
}

func openAudit(c config.AuditLog, log *slog.Logger) (audit, error) {
	if c.File == "" {
		return audit{}, nil
	}
	opened, err := auditlog.Open(auditlog.Config{Path: c.File, MaxSize: int64(c.MaxMiB) << 20, Keep: c.Keep}, log)
	if err != nil {
		return audit{}, err
	}
	return audit{log: opened, denied: auditlog.NewDenied(opened), block: c.WhenFull == config.Block}, nil
}

func (a *audit) close() error {
	if a.log == nil {
		return nil
	}
	return a.log.Close()
}

// start notes the start, and writes the lines about denied callers until stop is called, which notes the end.
func (a *audit) start(fields ...slog.Attr) (stop func()) {
	if a.log == nil {
		return func() {}
	}
	a.note("started", fields...)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.denied.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		a.note("stopped")
	}
}

// note writes a line about something that no call asked for, and that does not wait for it: if the line is lost, it is
// counted.
func (a *audit) note(event string, fields ...slog.Attr) {
	if a.log != nil {
		_ = a.log.Append(event, fields...)
	}
}

// refused counts a caller that was turned away.
func (a *audit) refused(p socket.Peer) {
	if a.log != nil {
		a.denied.Add(p.UID, p.PID)
	}
}

func (a *audit) noticed(n kms.Notice) {
	fields := []slog.Attr{slog.String("key_id", n.KeyID)}
	if n.Previous != "" {
		fields = append(fields, slog.String("previous_key_id", n.Previous))
	}
	a.note(string(n.Event), fields...)
}

func (a *audit) reloaded(hash string, err error) {
	if err != nil {
		a.note("reload", slog.String("result", "refused"), slog.String("reason", err.Error()))
		return
	}
	a.note("reload", slog.String("result", "ok"), slog.String("config", hash))
}

// counts returns how many events have a line, and how many have none.
func (a *audit) counts() (lines, lost uint64) {
	if a.log == nil {
		return 0, 0
	}
	return a.log.Counts()
}

// auditCall writes the line of a wrap or an open before it is answered. The lock is looked at again after that: a slow disk
// must not let an answer out of a locked node.
func (d *daemon) auditCall(ctx context.Context, req any, call *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	api, method := methodOf(call)
	event := map[string]string{"Encrypt": "wrap", "Decrypt": "open"}[method]
	if d.audit.log == nil || event == "" {
		return handle(ctx, req)
	}
	fields := []slog.Attr{slog.String("api", api)}
	if uid := uidOf(req); uid != "" {
		fields = append(fields, slog.String("uid", uid))
	}
	if p, ok := callerOf(ctx); ok {
		fields = append(fields, slog.Uint64("peer_uid", uint64(p.UID)), slog.Int64("peer_pid", int64(p.PID)))
	}
	answer, err := handle(ctx, req)
	for _, message := range []any{req, answer} { // opens name it in the request, wraps in the answer
		if m, ok := message.(interface{ GetKeyId() string }); ok && m.GetKeyId() != "" {
			fields = append(fields, slog.String("key_id", m.GetKeyId()))
		}
	}
	fields = append(fields, slog.String("code", status.Code(err).String()))
	failed := d.audit.log.Append(event, fields...)
	if failed != nil && d.audit.block {
		wipe(answer)
		return nil, status.Errorf(codes.Unavailable, "writing the audit log: %v; make room for it, or set auditLog.whenFull to continue", failed)
	}
	if refusal := d.refusal(); refusal != nil {
		wipe(answer)
		return nil, refusal
	}
	return answer, err
}

// callerOf returns who is on the other end of the socket.
func callerOf(ctx context.Context) (p socket.Peer, ok bool) {
	if from, there := peer.FromContext(ctx); there {
		p, ok = from.Addr.(socket.Peer)
	}
	return p, ok
}

// exportHead answers the operator's tool with a head of the audit log, which is secret.
func (d *daemon) exportHead(w http.ResponseWriter, r *http.Request) {
	if d.audit.log == nil {
		http.Error(w, "there is no audit log: set auditLog.file", http.StatusNotFound)
		return
	}
	head, err := d.audit.log.Export(slog.String("peer", r.RemoteAddr))
	if err != nil {
		http.Error(w, "writing the audit log: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(head.Encode()) // who has asked is gone
}
