package tpmseal_test

import (
	"crypto/sha256"
	"io"
	"net"
)

// checksummed returns a changed file with the checksum that it should have.
func checksummed(content []byte) []byte {
	content = content[:len(content)-sha256.Size]
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

// forward connects a client with a TPM and shows to w what they say.
func forward(client net.Conn, to string, w io.Writer) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	go func() {
		defer server.Close()
		io.Copy(io.MultiWriter(server, w), client)
	}()
	io.Copy(io.MultiWriter(client, w), server)
}
