package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	kmsv2 "k8s.io/kms/apis/v2"
)

// connection is a gRPC connection to a plugin.
type connection struct {
	grpc   *grpc.ClientConn
	plugin kmsv2.KeyManagementServiceClient

	mu      sync.Mutex
	dialErr error // of the last attempt to reach the socket
}

// newConnection dials at the first call.
func newConnection(socket string) (*connection, error) {
	c := new(connection)
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := dial(ctx, socket)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dialErr = err // gRPC makes text of it
		return conn, err
	}
	var err error
	c.grpc, err = grpc.NewClient("passthrough:///plugin", grpc.WithContextDialer(dial), grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(0)) // they would keep secrets
	if err != nil {
		return nil, err
	}
	c.plugin = kmsv2.NewKeyManagementServiceClient(c.grpc)
	return c, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err == nil {
		return conn, nil
	}
	if errors.Is(err, syscall.ECONNREFUSED) { // which is what files of other kinds answer, too
		if info, statErr := os.Stat(socket); statErr == nil && info.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%w: %s", errNoSocket, socket)
		}
	}
	return nil, fmt.Errorf("%w: %w", errAway, err)
}

// failed returns whether c cannot be used any more, and why the socket was not reached, if that is the reason.
func (c *connection) failed() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialErr != nil || c.grpc.GetState() == connectivity.TransientFailure, c.dialErr
}

// call calls the plugin; sent is the part of the request that no error may show. A connection that has failed is given up,
// and the next call makes another: gRPC itself would try it again in the background, and let all calls fail for up to two
// minutes after the plugin is back.
func (k *Key) call(sent []byte, do func(kmsv2.KeyManagementServiceClient) error) error {
	c, err := k.connection()
	if err != nil {
		return err
	}
	err = do(c.plugin)
	if err == nil {
		return nil
	}
	if failed, dialErr := c.failed(); failed {
		k.giveUp(c)
		if dialErr != nil {
			return dialErr
		}
	}
	return newRefusal(err, sent)
}

func (k *Key) connection() (*connection, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errClosed
	}
	if k.current == nil {
		c, err := newConnection(k.config.Socket)
		if err != nil {
			return nil, err
		}
		k.current = c
	}
	return k.current, nil
}

func (k *Key) giveUp(c *connection) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == c {
		k.current = nil
	}
	_ = c.grpc.Close() // a second time does no harm
}

// Close ends the connection, and with it the calls under way.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.current != nil {
		_ = k.current.grpc.Close()
		k.current = nil
	}
	return nil
}
