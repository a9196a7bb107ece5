// Package kmsclient calls a KMS plugin over its socket as kube-apiserver does, with the API server's own client code.
//
// It works with every plugin, not with Trousseau's alone. It promises the API server's answer: what fails here fails
// there, and what Prove accepts is what an API server accepts. It retries nothing and caches nothing.
package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	"k8s.io/kms/pkg/service"
)

// DefaultTimeout is how long an API server waits for an answer where its EncryptionConfiguration does not say.
const DefaultTimeout = 3 * time.Second

// providerName is what the API server's code calls the plugin in its metrics, which nobody reads here.
const providerName = "trousseau"

// Options says whom to call, and how.
type Options struct {
	Socket  string        // absolute path
	Timeout time.Duration // of each call; zero means DefaultTimeout
	V1beta1 bool          // speak KMS v1beta1 instead of v2
}

// Client calls one plugin. Its methods may be called concurrently.
type Client struct {
	options Options
	service service.Service
	close   context.CancelFunc
}

// Status is what a plugin says of itself.
type Status struct {
	Version string `json:"version"` // "v2", "v2beta1" or "v1beta1"
	Healthz string `json:"healthz"` // "ok", or what is wrong
	KeyID   string `json:"keyID"`   // what new data is sealed under; "" with v1beta1
}

// Sealed is what a plugin makes of a plaintext: all of it is stored beside the data in etcd.
type Sealed struct {
	Ciphertext  []byte            `json:"ciphertext"`
	KeyID       string            `json:"keyID,omitempty"`
	Annotations map[string][]byte `json:"annotations,omitempty"`
}

// Size returns how many bytes of s are stored with each object.
func (s Sealed) Size() int {
	size := len(s.Ciphertext) + len(s.KeyID)
	for name, content := range s.Annotations {
		size += len(name) + len(content)
	}
	return size
}

// Error says why a plugin gave no answer, with the operator's next action.
type Error struct {
	Err  error
	Hint string // never empty
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Dial connects to a plugin. Unlike the API server, which waits, it fails at once where nobody listens. The caller
// closes the Client. Its error is an *Error, as are those of all methods.
func Dial(options Options) (*Client, error) {
	if options.Timeout == 0 {
		options.Timeout = DefaultTimeout
	}
	path, err := filepath.Abs(options.Socket) // a relative one would be taken for a host
	if err != nil {
		return nil, &Error{Err: err, Hint: "give the absolute path of the plugin's socket"}
	}
	options.Socket = path
	if err := knock(options.Socket); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) // the connection lives until Close, not as long as a call
	connect := newV2
	if options.V1beta1 {
		connect = newV1beta1
	}
	svc, err := connect(ctx, "unix://"+options.Socket, options.Timeout)
	if err != nil {
		cancel()
		return nil, &Error{
			Err:  fmt.Errorf("connecting to %s: %w", options.Socket, err),
			Hint: "give the absolute path of the plugin's socket",
		}
	}
	return &Client{options: options, service: svc, close: cancel}, nil
}

func newV2(ctx context.Context, endpoint string, timeout time.Duration) (service.Service, error) {
	return kmsv2.NewGRPCService(ctx, endpoint, providerName, timeout)
}

// Close ends the connection.
func (c *Client) Close() { c.close() }

// knock finds out what is wrong with a socket that nobody answers on: the API server's client only says that time is up.
func knock(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Err: fmt.Errorf("looking for the socket: %w", err), Hint: "start the daemon, or give its socket with --socket"}
	case err != nil:
		return &Error{Err: fmt.Errorf("looking for the socket: %w", err), Hint: "run this as root or as the daemon's user"}
	case info.Mode().Type() != fs.ModeSocket:
		return &Error{Err: fmt.Errorf("%s is no socket (%s)", path, info.Mode()), Hint: "give the path of the plugin's socket"}
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Err: fmt.Errorf("nobody listens on the socket: %w", err), Hint: "start the daemon, or see its log for why it stopped"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Err: fmt.Errorf("connecting: %w", err), Hint: "run this as root or as a user that may write to the socket"}
	case err != nil:
		return &Error{Err: fmt.Errorf("connecting: %w", err), Hint: "see the daemon's log"}
	}
	return conn.Close()
}

// Status asks the plugin how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	answer, err := c.service.Status(ctx)
	if err != nil {
		return Status{}, c.fail("asking for the status", err)
	}
	return Status{Version: answer.Version, Healthz: answer.Healthz, KeyID: answer.KeyID}, nil
}

// Encrypt lets the plugin wrap a plaintext. uid names the call in the plugin's log.
func (c *Client) Encrypt(ctx context.Context, uid string, plaintext []byte) (Sealed, error) {
	answer, err := c.service.Encrypt(ctx, uid, plaintext)
	if err != nil {
		return Sealed{}, c.fail("wrapping", err)
	}
	return Sealed{Ciphertext: answer.Ciphertext, KeyID: answer.KeyID, Annotations: answer.Annotations}, nil
}

// Decrypt lets the plugin unwrap what Encrypt returned.
func (c *Client) Decrypt(ctx context.Context, uid string, sealed Sealed) ([]byte, error) {
	plaintext, err := c.service.Decrypt(ctx, uid, &service.DecryptRequest{
		Ciphertext: sealed.Ciphertext, KeyID: sealed.KeyID, Annotations: sealed.Annotations,
	})
	if err != nil {
		return nil, c.fail("unwrapping", err)
	}
	return plaintext, nil
}

// fail turns the plugin's error into an *Error.
func (c *Client) fail(op string, err error) error {
	answer, ok := status.FromError(err)
	if !ok { // not from the connection: the plugin answered, and the answer is wrong
		return &Error{Err: fmt.Errorf("%s: %w", op, err), Hint: "see the plugin's log"}
	}
	if answer.Code() == codes.DeadlineExceeded || answer.Code() == codes.Canceled {
		return &Error{
			Err: fmt.Errorf("%s: no answer within %s: %w", op, c.options.Timeout, err),
			Hint: "see the daemon's log: it says whether a key service is slow or away, " +
				"or whether it turns this user away (socket.allowUIDs)",
		}
	}
	hint := "see the daemon's log"
	if answer.Code() == codes.Unimplemented {
		hint = "this plugin does not speak this version of the KMS API"
	}
	return &Error{Err: fmt.Errorf("%s: the plugin answers %s: %s", op, answer.Code(), answer.Message()), Hint: hint}
}
