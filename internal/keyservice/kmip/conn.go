package kmip

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	headerSize = 8        // bytes of tag, type and length
	maxAnswer  = 64 << 10 // bytes; real answers have a few hundred
)

// conn is one connection to one server. It serves one request at a time, and none after one that failed.
type conn struct {
	*tls.Conn
	raw     net.Conn
	made    *settings
	version kmip.ProtocolVersion
	idle    time.Time // since when
}

// handshakeError is what went wrong before each side knew the other.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// versionError says that the server speaks no version that has what is needed.
type versionError struct{ error }

// malformedError is an answer that is no message of KMIP, or not the one that was asked for.
type malformedError struct{ error }

// dial connects and agrees on the best of the given versions.
func dial(ctx context.Context, address string, made *settings, versions []kmip.ProtocolVersion) (*conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := made.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address) // the configuration was checked
	}
	c := &conn{Conn: tls.Client(raw, config), raw: raw, made: made, version: versions[len(versions)-1]}
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &handshakeError{err}
	}
	if err := c.agree(ctx, versions); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// agree asks for the server's versions of the protocol and takes the best one that is wanted. A *keyservice.Error is what
// the server answered instead.
func (c *conn) agree(ctx context.Context, wanted []kmip.ProtocolVersion) error {
	request := &payloads.DiscoverVersionsRequestPayload{ProtocolVersion: wanted}
	item, err := c.ask(ctx, request)
	if err != nil {
		return err
	}
	if item.ResultStatus != kmip.ResultStatusSuccess {
		refused := judge("", request, item)
		if refused.Kind == keyservice.Invalid {
			return &versionError{fmt.Errorf("KMIP %v is needed: %w", wanted, refused.Err)}
		}
		return refused
	}
	answer, ok := item.ResponsePayload.(*payloads.DiscoverVersionsResponsePayload)
	if !ok {
		return &malformedError{errors.New("the answer is to another operation")}
	}
	for _, version := range wanted {
		if slices.Contains(answer.ProtocolVersion, version) {
			c.version = version
			return nil
		}
	}
	return &versionError{fmt.Errorf("KMIP %v is needed, and the server offers none of it", wanted)}
}

// ask sends one request and returns the server's answer, which may be a refusal. It returns as soon as ctx ends.
func (c *conn) ask(ctx context.Context, payload kmip.OperationPayload) (kmip.ResponseBatchItem, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	answer, err := c.exchange(payload)
	if !stop() {
		return kmip.ResponseBatchItem{}, ctx.Err()
	}
	if err != nil {
		return kmip.ResponseBatchItem{}, err
	}
	if len(answer.BatchItem) != 1 {
		return kmip.ResponseBatchItem{}, &malformedError{fmt.Errorf("the answer has %d items", len(answer.BatchItem))}
	}
	return answer.BatchItem[0], nil
}

func (c *conn) exchange(payload kmip.OperationPayload) (*kmip.ResponseMessage, error) {
	message := kmip.NewRequestMessage(c.version, payload)
	message.Header.TimeStamp = nil // it is optional, and a server whose clock is late refuses a request from the future
	request := ttlv.MarshalTTLV(&message)
	_, err := c.Write(request)
	clear(request)
	if err != nil {
		if _, said := c.Read(make([]byte, 1)); said != nil && refusedCertificate(said) {
			return nil, said // why the server has hung up
		}
		return nil, fmt.Errorf("sending the request: %w", err)
	}
	return c.receive()
}

func (c *conn) receive() (*kmip.ResponseMessage, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(c, header); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	size := binary.BigEndian.Uint32(header[4:])
	if tag := binary.BigEndian.Uint32(header) >> 8; tag != kmip.TagResponseMessage {
		return nil, &malformedError{fmt.Errorf("the answer starts with tag %06X", tag)}
	}
	if size > maxAnswer {
		return nil, &malformedError{fmt.Errorf("the answer has %d bytes", size)}
	}
	answer := append(make([]byte, 0, headerSize+size), header...)[:headerSize+size]
	defer clear(answer)
	if _, err := io.ReadFull(c, answer[headerSize:]); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return decode(answer)
}

// decode reads a message that anybody may have made. The library panics on some: it takes a value of no bytes for a number,
// for instance.
func decode(data []byte) (message *kmip.ResponseMessage, err error) {
	defer func() {
		if recover() != nil {
			err = &malformedError{errors.New("the answer is damaged")}
		}
	}()
	message = new(kmip.ResponseMessage)
	if ttlv.UnmarshalTTLV(data, message) != nil { // whose words may quote the answer
		return nil, &malformedError{errors.New("the answer is no message of KMIP")}
	}
	return message, nil
}
