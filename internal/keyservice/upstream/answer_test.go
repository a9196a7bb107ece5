package upstream_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
)

// The example of docs/formats.md, put together by hand.
const example = "5d9d561d" +
	"0003" + "6b2d31" +
	"0021" + "0d" + "612e6578616d706c652e636f6d" + "0001" + "01" + "0d" + "622e6578616d706c652e636f6d" + "0000" +
	"c0ffee"

func TestFormat(t *testing.T) {
	got, err := upstream.Encode("k-1", map[string][]byte{"b.example.com": {}, "a.example.com": {1}}, []byte{0xc0, 0xff, 0xee})
	if err != nil || hex.EncodeToString(got) != example {
		t.Fatalf("%x, %v", got, err)
	}
}

// seal puts the checksum before a content, as the format says.
func seal(content []byte) []byte {
	sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	return append(binary.BigEndian.AppendUint32(nil, sum), content...)
}

func TestBytesThatAreRefused(t *testing.T) {
	long := strings.Repeat("00", 1024)
	for name, content := range map[string]string{
		"nothing":                    "",
		"half a size":                "00",
		"key id ends early":          "0003" + "6b2d",
		"no key id":                  "0000" + "0000" + "c0ffee",
		"key id too long":            "0401" + long + "00" + "0000" + "c0ffee",
		"annotations end early":      "0001" + "6b" + "0005" + "01",
		"annotation ends early":      "0001" + "6b" + "0004" + "03612e62" + "c0ffee",
		"annotation value ends":      "0001" + "6b" + "0007" + "03612e62" + "0002" + "01" + "c0ffee",
		"annotations not sorted":     "0001" + "6b" + "000c" + "03622e62" + "0000" + "03612e62" + "0000" + "c0ffee",
		"annotation twice":           "0001" + "6b" + "000c" + "03612e62" + "0000" + "03612e62" + "0000" + "c0ffee",
		"annotation without a name":  "0001" + "6b" + "0003" + "00" + "0000" + "c0ffee",
		"annotation is no domain":    "0001" + "6b" + "0004" + "0161" + "0000" + "c0ffee",
		"no ciphertext":              "0001" + "6b" + "0000",
		"ciphertext too long":        "0001" + "6b" + "0000" + long + "00",
		"annotations beyond Kubern.": "0001" + "6b" + "8006" + "03612e62" + "8000" + strings.Repeat(long, 32) + "c0ffee",
	} {
		b, err := hex.DecodeString(content)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, _, _, err := upstream.Decode(seal(b)); err == nil || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzDecode looks for panics, and for bytes that are not what encoding gives again.
func FuzzDecode(f *testing.F) {
	for _, content := range []string{example[8:], "0001" + "6b" + "0000" + "00", ""} {
		b, err := hex.DecodeString(content)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		stored := seal(content)
		keyID, annotations, ciphertext, err := upstream.Decode(stored)
		if err != nil {
			return
		}
		again, err := upstream.Encode(keyID, annotations, ciphertext)
		if err != nil || !bytes.Equal(again, stored) {
			t.Errorf("%x became %x, %v", stored, again, err)
		}
	})
}

// FuzzIsDomainName compares with what the API server asks of the names of annotations.
func FuzzIsDomainName(f *testing.F) {
	label := strings.Repeat("x", 63)
	for _, name := range []string{
		"", ".", "a", "a.b", "a.b.", "a.b..", "a..b", ".a.b", "-a.b", "a-.b", "a-b.c", "A.b", "a_b.c", "a.b\n", "1.2", "\xff.a",
		label + ".a", label + "x.a", strings.Repeat(label+".", 3) + label[2:], strings.Repeat(label+".", 3) + label[1:],
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want := len(validation.IsFullyQualifiedDomainName(nil, name)) == 0
		if got := upstream.IsDomainName(name); got != want {
			t.Errorf("%q is a fully qualified domain name: %t, the API server says %t", name, got, want)
		}
	})
}

func TestWrappedBytesHoldWhatThePluginAnswered(t *testing.T) {
	plugin := upstreamtest.Start(t)
	plugin.Rotate()
	announced := plugin.Rotate()
	keyID, annotations, ciphertext, err := upstream.Decode(keyservicetest.Wrap(t, open(t, plugin.Socket, quiet), "").Bytes)
	if err != nil || keyID != announced || len(ciphertext) != 60 {
		t.Errorf("key id %q, %d bytes, %v", keyID, len(ciphertext), err)
	}
	if names := slices.Collect(maps.Keys(annotations)); !slices.Equal(names, []string{upstreamtest.Annotation}) {
		t.Errorf("annotations %q", names)
	}
}

// Bytes that are whole and were changed on purpose reach the plugin, which authenticates them.
func TestForgedBytesAreNotOpened(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	keyID, annotations, ciphertext, err := upstream.Decode(wrapped.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext[0] ^= 1
	forged, err := upstream.Encode(keyID, annotations, ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	_, err = key.Unwrap(t.Context(), keyservice.Wrapped{Version: wrapped.Version, Bytes: forged}, nil)
	keyservicetest.CheckKind(t, "forged", err, keyservice.Unavailable, "message authentication failed") // a plain error: gRPC code Unknown
}
