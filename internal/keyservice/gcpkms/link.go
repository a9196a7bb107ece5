package gcpkms

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	kms "cloud.google.com/go/kms/apiv1"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// link is the one connection to the service. It is made by the first call, and dropped by a call that could not connect,
// so that the next one tries at once: gRPC alone would wait up to two minutes after an outage.
type link struct {
	target string
	creds  credentials.TransportCredentials

	mu     sync.Mutex
	conn   *grpc.ClientConn // nil until the first call
	client *kms.KeyManagementClient
	closed bool
}

// newLink takes an endpoint that was checked.
func newLink(endpoint string) *link {
	hostPort, plain, _ := parseEndpoint(endpoint)
	l := &link{target: "dns:///" + hostPort, creds: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})}
	if plain {
		l.creds = insecure.NewCredentials()
	}
	return l
}

// deadAfter is how long what was sent may stay unacknowledged before the connection counts as dead (on Linux).
const deadAfter = 10 * time.Second

func (l *link) get(ctx context.Context) (*kms.KeyManagementClient, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, closedError()
	}
	if l.conn != nil {
		return l.client, nil
	}
	conn, err := grpc.NewClient(l.target,
		grpc.WithTransportCredentials(l.creds),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), // callers retry, and nobody asks DNS for settings
		grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(0), // they would hold plaintext
		// With keepalive gRPC sets TCP_USER_TIMEOUT to Timeout, which is what is wanted here. Google's servers end
		// connections that ping more often than every five minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: deadAfter}),
	)
	if err != nil {
		return nil, err
	}
	// By default the client logs whole requests if an environment variable says so.
	client, err := kms.NewKeyManagementClient(ctx, option.WithGRPCConn(conn), option.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		conn.Close()
		return nil, err
	}
	client.CallOptions = &kms.KeyManagementCallOptions{} // no retries, no deadlines
	l.conn, l.client = conn, client
	return client, nil
}

// look drops the connection of a client whose call failed, if it is not a connection that works.
func (l *link) look(client *kms.KeyManagementClient, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == client && status.Code(err) == codes.Unavailable && l.conn.GetState() != connectivity.Ready {
		l.drop()
	}
}

// drop ends the connection, if there is one. The caller holds mu.
func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close() // it says only whether it was closed before
		l.conn, l.client = nil, nil
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.drop()
}

// call makes one authenticated call with a method of the client. A refused token is replaced once.
func call[Q, A any](
	ctx context.Context, k *Key, op string,
	method func(*kms.KeyManagementClient, context.Context, Q, ...gax.CallOption) (A, error), request Q,
) (answer A, err error) {
	client, err := k.link.get(ctx)
	if err != nil {
		return answer, within(op, err)
	}
	token, err := k.session.token(ctx, nil)
	if err != nil {
		return answer, within(op, err)
	}
	answer, err = method(client, k.authorize(ctx, token), request)
	if status.Code(err) == codes.Unauthenticated {
		other, loginErr := k.session.token(ctx, token)
		if loginErr != nil {
			return answer, within(op, loginErr)
		}
		answer, err = method(client, k.authorize(ctx, other), request)
	}
	if err != nil {
		k.link.look(client, err)
		return answer, classify(ctx, op, request, err)
	}
	return answer, nil
}

func (k *Key) authorize(ctx context.Context, token *auth.Token) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token.Value)
	if k.config.QuotaProject != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-user-project", k.config.QuotaProject)
	}
	return ctx
}

// within says during which operation something else failed, and keeps its kind and hint.
func within(op string, err error) error {
	return &keyservice.Error{Kind: keyservice.KindOf(err), Op: op, Hint: keyservice.HintOf(err), Err: err}
}
