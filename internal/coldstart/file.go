package coldstart

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/durable"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

const magic = "trc1"

// file is a sealed file in parsed form.
//
//	"trc1" ‖ name, label ‖ end 8 ‖ version ‖ length 2, wrapped key ‖ content under AES-256-GCM
//
// name, label and version have a length of one byte before them; end is in seconds of Unix time. The key is drawn anew for
// each file, so the nonce is zero. What stands before the content is authenticated, and so is the cluster.
type file struct {
	name, label string
	until       time.Time
	wrapped     keyservice.Wrapped
	sealed      []byte
}

// header returns what stands before the content.
func (f *file) header() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddBytes([]byte(magic))
	addText(&b, f.name)
	addText(&b, f.label)
	b.AddUint64(uint64(f.until.Unix()))
	addText(&b, string(f.wrapped.Version))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(f.wrapped.Bytes) })
	return b.Bytes()
}

func addText(b *cryptobyte.Builder, text string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
}

// wrapAAD is what the node's key binds to the key of a file.
func wrapAAD(name, cluster string) []byte {
	return []byte("trousseau cold start " + name + " " + cluster)
}

// write seals content into the file of that name.
func (s *Store) write(ctx context.Context, name, label string, until time.Time, content []byte) error {
	key := make([]byte, 32)
	defer clear(key)
	rand.Read(key)
	wrapped, err := s.Key.Wrap(ctx, "", key, wrapAAD(name, s.Cluster))
	if err != nil {
		return fmt.Errorf("sealing %s: %w", s.path(name), err)
	}
	f := file{name: name, label: label, until: until, wrapped: wrapped}
	header, err := f.header()
	if err != nil {
		return fmt.Errorf("sealing %s: %w", s.path(name), err)
	}
	sealed, err := crypt(key, func(aead cipher.AEAD, nonce []byte) ([]byte, error) {
		return aead.Seal(nil, nonce, content, append([]byte(s.Cluster), header...)), nil
	})
	if err != nil {
		return err
	}
	return durable.Replace(s.path(name), append(header, sealed...))
}

// read reads the file of that name. Its seal is not looked at.
func (s *Store) read(name string) (*file, error) {
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	f, err := parse(data)
	if err == nil && f.name != name {
		err = errors.New("it was renamed")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.path(name), err)
	}
	return f, nil
}

func parse(data []byte) (*file, error) {
	var (
		f                             file
		prefix                        []byte
		name, label, version, wrapped cryptobyte.String
		until                         uint64
	)
	in := cryptobyte.String(data)
	if !in.ReadBytes(&prefix, len(magic)) || string(prefix) != magic ||
		!in.ReadUint8LengthPrefixed(&name) || !in.ReadUint8LengthPrefixed(&label) || !in.ReadUint64(&until) ||
		!in.ReadUint8LengthPrefixed(&version) || !in.ReadUint16LengthPrefixed(&wrapped) {
		return nil, errors.New("it is damaged, or not a file of this kind")
	}
	f.name, f.label, f.until = string(name), string(label), time.Unix(int64(until), 0)
	f.wrapped = keyservice.Wrapped{Version: keyservice.VersionID(version), Bytes: wrapped}
	f.sealed = in
	return &f, nil
}

// open returns the content, which the caller wipes.
func (f *file) open(ctx context.Context, key keyservice.Key, cluster string) ([]byte, error) {
	secret, err := key.Unwrap(ctx, f.wrapped, wrapAAD(f.name, cluster))
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	header, err := f.header()
	if err != nil {
		return nil, err
	}
	return crypt(secret, func(aead cipher.AEAD, nonce []byte) ([]byte, error) {
		return aead.Open(nil, nonce, f.sealed, append([]byte(cluster), header...))
	})
}

// crypt calls work with the cipher of a key and leaves nothing of it behind.
func crypt(key []byte, work func(aead cipher.AEAD, nonce []byte) ([]byte, error)) (out []byte, err error) {
	secretmem.Do(func() {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err != nil {
			return
		}
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err == nil {
			out, err = work(aead, make([]byte, aead.NonceSize()))
		}
	})
	return out, err
}
