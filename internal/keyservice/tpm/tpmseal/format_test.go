package tpmseal_test

import (
	"bytes"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
)

// parsers are the three readers, each with what writes again what it has read.
var parsers = map[string]func([]byte) ([]byte, error){
	"trp1": func(b []byte) ([]byte, error) {
		s, err := tpmseal.ParseSealedKey(b)
		if err != nil {
			return nil, err
		}
		return s.Encode(), nil
	},
	"trg1": func(b []byte) ([]byte, error) {
		g, err := tpmseal.ParseGrant(b)
		if err != nil {
			return nil, err
		}
		return g.Encode(), nil
	},
	"trq1": func(b []byte) ([]byte, error) {
		r, err := tpmseal.ParseRequest(b)
		if err != nil {
			return nil, err
		}
		return r.Encode(), nil
	},
}

// samples returns a file of each format.
func samples(t *testing.T) map[string][]byte {
	t.Helper()
	tpm := tpmtest.Start(t)
	asked := request(t, tpm.Device, pcr7)
	return map[string][]byte{
		"trp1": seal(t, tpm.Device, none, pcr7).Encode(), "trg1": grant(t, asked).Encode(), "trq1": asked.Encode(),
	}
}

func TestFilesAreReadBack(t *testing.T) {
	for magic, content := range samples(t) {
		if string(content[:4]) != magic {
			t.Errorf("%s begins with %q", magic, content[:4])
		}
		for reader, parse := range parsers {
			again, err := parse(content)
			if reader == magic && (err != nil || !bytes.Equal(again, content)) {
				t.Errorf("%s read back: %v", magic, err)
			}
			if reader != magic {
				wantError(t, err, keyservice.Invalid, "does not begin with")
			}
		}
	}
}

func TestDamagedAndForgedFiles(t *testing.T) {
	for magic, content := range samples(t) {
		parse := parsers[magic]
		for n := range content {
			_, err := parse(content[:n])
			wantError(t, err, keyservice.Corrupt, "damaged")
			if n < 4 {
				continue
			}
			flipped := bytes.Clone(content)
			flipped[n] ^= 0x40
			_, err = parse(flipped)
			wantError(t, err, keyservice.Corrupt, "damaged")
		}
		end := content[:len(content)-32]
		for name, forged := range map[string][]byte{
			"a byte too many": append(bytes.Clone(end), make([]byte, 33)...),
			"a byte too few":  bytes.Clone(content[:len(content)-1]),
			"huge":            append(bytes.Clone(end), make([]byte, 5000)...),
		} {
			_, err := parse(checksummed(forged))
			if err == nil || keyservice.KindOf(err) != keyservice.Invalid {
				t.Errorf("%s, %s: %v", magic, name, err)
			}
		}
	}
	sealed := samples(t)["trp1"]
	sealed[36] = 2
	_, err := tpmseal.ParseSealedKey(checksummed(sealed))
	wantError(t, err, keyservice.Invalid, "fields do not fit")
}

func fuzz(f *testing.F, magic string) {
	object := append(make([]byte, 32+1+3+32), 0, 1, 'p')
	for _, body := range [][]byte{nil, make([]byte, 64+3), object, append(bytes.Clone(object), 0, 1, 's')} {
		f.Add(append([]byte(magic), body...))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, content := range [][]byte{content, checksummed(append(bytes.Clone(content), make([]byte, 32)...))} {
			again, err := parsers[magic](content)
			if err == nil && !bytes.Equal(again, content) {
				t.Errorf("%x is read, and written as %x", content, again)
			}
		}
	})
}

func FuzzParseSealedKey(f *testing.F) { fuzz(f, "trp1") }
func FuzzParseGrant(f *testing.F)     { fuzz(f, "trg1") }
func FuzzParseRequest(f *testing.F)   { fuzz(f, "trq1") }

func TestParsePCRs(t *testing.T) {
	for text, want := range map[string]string{
		"7": "7", "7,11": "7,11", "11, 7,7": "7,11", "0,23": "0,23", "none": "none", "": "", "24": "", "-1": "", "7;11": "", "7,": "",
	} {
		pcrs, err := tpmseal.ParsePCRs(text)
		if (want == "") != (err != nil) || err == nil && pcrs.String() != want {
			t.Errorf("%q: %s, %v", text, pcrs, err)
		}
	}
}

func TestValidateDevice(t *testing.T) {
	for device, ok := range map[tpmseal.Device]bool{
		"/dev/tpmrm0": true, "/run/swtpm.sock": true, "127.0.0.1:2321": true, "[::1]:2321": true,
		"": false, "tpm0": false, "/dev/\x00": false, "192.0.2.1:2321": false, "localhost:2321": false, "127.0.0.1": false, "127.0.0.1:": false,
	} {
		if err := device.Validate(); ok != (err == nil) {
			t.Errorf("%q: %v", device, err)
		}
	}
}
