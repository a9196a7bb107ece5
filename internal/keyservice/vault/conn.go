package vault

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// http.Transport keeps two buffers of 4 KiB for each connection, and TLS one more, with the last request and answer in
// them: a share in base64. The connections here wipe them.

// wipedReads wipes the buffer that it is to read into, which is its to use: who waits for the next answer on an idle
// connection has given up what the buffer held.
type wipedReads struct{ net.Conn }

func (c wipedReads) Read(p []byte) (int, error) {
	clear(p)
	return c.Conn.Read(p)
}

// transportBuffer is the size in bytes of the buffer in which http.Transport puts a request together.
const transportBuffer = 4 << 10

// wipedConn also wipes what it has written, which other writers must not do: up to its size that is the buffer of
// http.Transport, which does not look at it again. More at once is the body of a request itself, which may have to be sent again.
type wipedConn struct{ wipedReads }

func (c wipedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if len(p) <= transportBuffer {
		clear(p[:n])
	}
	return n, err
}

// dial connects without TLS.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return wipedConn{wipedReads{conn}}, nil
}

func connect(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
}

// dialTLS returns what connects with TLS. Beneath TLS it wipes what TLS decrypts in place.
func dialTLS(config *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := config.Clone()
		if config.ServerName == "" {
			if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
				conn.Close()
				return nil, err
			}
		}
		secure := tls.Client(wipedReads{conn}, config)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return wipedConn{wipedReads{secure}}, nil
	}
}

// answerSize is enough in bytes for an answer that holds a secret.
const answerSize = 4 << 10

// readAll is io.ReadAll that leaves one copy of what it reads, even where that is long.
func readAll(r io.Reader) ([]byte, error) {
	all := make([]byte, 0, answerSize)
	for {
		n, err := r.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			clear(all)
			return nil, err
		}
		if len(all) == cap(all) {
			longer := append(make([]byte, 0, 2*cap(all)), all...)
			clear(all)
			all = longer
		}
	}
}
