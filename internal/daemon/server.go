package daemon

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/kms"
)

const (
	// maxMessage is the largest request in bytes: a v2 Decrypt has up to 1 KiB of ciphertext and 32 KiB of annotations,
	// a v1beta1 one up to 64 KiB.
	maxMessage = 128 << 10
	// maxStreams is how many calls one connection may have open, those that wait included.
	maxStreams = 1024
	// streamWorkers are goroutines that gRPC keeps for calls, so that few calls need a new stack; when all are busy it
	// makes more as usual. It takes about 0.03 ms off each call.
	streamWorkers = 16
)

// newServer returns the gRPC server for the socket. It has no read and write buffers, because those would keep copies of
// plaintext seeds, and a codec that wipes what it had in hand.
func (d *daemon) newServer() *grpc.Server {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(10*time.Second),
		grpc.ReadBufferSize(0), grpc.WriteBufferSize(0), grpc.NumStreamWorkers(streamWorkers),
		grpc.ForceServerCodecV2(codec{}),
		grpc.ChainUnaryInterceptor(
			d.observeCall,
			d.auditCall,
			d.refuseLocked,
			Limit(d.config.Socket.MaxCalls, kmsv2.KeyManagementService_Status_FullMethodName, kmsv1beta1.KeyManagementService_Version_FullMethodName),
		),
	)
	kms.RegisterV2(server, d.plugin)
	if !d.config.DisableV1beta1 {
		kms.RegisterV1beta1(server, d.plugin, d.Release)
	}
	return server
}

// observeCall measures a call and, at debug level, logs it.
func (d *daemon) observeCall(ctx context.Context, req any, call *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	start := time.Now()
	answer, err := handle(ctx, req)
	api, method := methodOf(call)
	if caller, ok := callerOf(ctx); ok && method == "Decrypt" {
		d.bursts.opened(caller)
	}
	code := status.Code(err).String()
	took := time.Since(start)
	d.metrics.calls.WithLabelValues(api, method, code).Inc()
	d.metrics.callSeconds.WithLabelValues(api, method).Observe(took.Seconds())
	d.log.DebugContext(ctx, "answered a call", "api", api, "method", method, "uid", uidOf(req), "code", code, "took", took)
	return answer, err
}

// methodOf takes "/v2.KeyManagementService/Encrypt" apart. gRPC hands on only methods that are registered, so what it
// returns is bounded.
func methodOf(call *grpc.UnaryServerInfo) (api, method string) {
	api, rest, _ := strings.Cut(strings.TrimPrefix(call.FullMethod, "/"), ".")
	return api, rest[strings.LastIndexByte(rest, '/')+1:]
}

// uidOf returns the id that the API server logs for the call, which v1beta1 has none of.
func uidOf(req any) string {
	if r, ok := req.(interface{ GetUid() string }); ok {
		return r.GetUid()
	}
	return ""
}
