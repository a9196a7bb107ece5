package azurekvtest

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestKeyWrap is the vector of RFC 3394, section 4.6.
func TestKeyWrap(t *testing.T) {
	t.Parallel()
	decode := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key := decode("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
	plain := decode("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
	want := decode("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
	got, err := wrapAES(key, plain)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrapped to %x: %v", got, err)
	}
	if back, err := unwrapAES(key, got); err != nil || !bytes.Equal(back, plain) {
		t.Errorf("unwrapped to %x: %v", back, err)
	}
	got[8] ^= 1
	if _, err := unwrapAES(key, got); err == nil {
		t.Error("a changed byte opens")
	}
}
