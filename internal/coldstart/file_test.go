package coldstart_test

import (
	"bytes"
	"testing"

	"github.com/trousseau-io/trousseau/internal/coldstart"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte("trc1\x0fcoldstart.spare\x02id\x00\x00\x00\x00\x00\x00\x00\x01\x01v\x00\x02wwsealed"))
	f.Add([]byte("trc1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if again, err := coldstart.Reencode(data); err == nil && !bytes.Equal(again, data) {
			t.Errorf("made %q of %q", again, data)
		}
	})
}
