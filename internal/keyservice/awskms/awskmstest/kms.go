package awskmstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits of KMS, in bytes.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxContext    = 8192
)

// blobOverhead is by how many bytes a ciphertext is longer than its plaintext. AWS documents no format; ciphertexts of 32 bytes
// that people have published have 184.
const blobOverhead = 152

// magic begins each ciphertext, before the id of its material.
var magic = []byte{1, 2, 2, 0, 0x78}

// input holds the parameters of all operations.
type input struct {
	KeyID              string `json:"KeyId"`
	Plaintext          []byte
	CiphertextBlob     []byte
	EncryptionContext  map[string]string
	IncludeKeyMaterial string
}

// serveAPI answers for KMS and STS, which share a path: KMS has a header that names the operation.
func (f *Fake) serveAPI(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Date", f.now().UTC().Format(http.TimeFormat))
	w.Header().Set("X-Amzn-Requestid", "00000000-1111-2222-3333-444444444444")
	op, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !isKMS {
		f.serveSTS(w, r, body)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	answer, failure := f.serveKMS(r, op, body)
	if failure != nil {
		w.WriteHeader(failure.Status)
		answer = map[string]string{"__type": failure.Code, "message": failure.Message}
	}
	_ = json.NewEncoder(w).Encode(answer) // fails if the client has gone
}

func (f *Fake) serveKMS(r *http.Request, op string, body []byte) (any, *Failure) {
	f.calls[op]++
	who, region, failure := f.verify(r, body, "kms")
	if failure != nil {
		return nil, failure
	}
	if failure := f.ordered(op, true); failure != nil {
		return nil, failure
	}
	var in input
	if json.Unmarshal(body, &in) != nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		return nil, refuse("SerializationException", "")
	}
	if f.noContext {
		in.EncryptionContext = nil
	}
	k, failure := f.find(region, who, in.KeyID)
	if failure != nil {
		return nil, failure
	}
	switch op {
	case "Encrypt":
		return k.encrypt(in)
	case "Decrypt":
		return f.decrypt(k, in)
	case "DescribeKey":
		return k.describe(), nil
	case "ListKeyRotations":
		if who.account != k.account {
			return nil, refuse("AccessDeniedException", "not from another account")
		}
		return k.rotations(in), nil
	case "GetKeyRotationStatus":
		return map[string]any{"KeyId": k.arn, "KeyRotationEnabled": k.autoRotation}, nil
	}
	return nil, refuse("UnknownOperationException", "")
}

// ordered returns the failure that the test has ordered for an operation, if any.
func (f *Fake) ordered(op string, isKMS bool) *Failure {
	for _, failure := range f.failures {
		if failure.Op == op || failure.Op == "" && isKMS {
			return &failure
		}
	}
	return nil
}

func refuse(code, message string) *Failure {
	return &Failure{Status: 400, Code: code, Message: message}
}

// find follows key ids, key ARNs, alias names and alias ARNs, in the Region that the request was signed for.
func (f *Fake) find(region string, who *identity, name string) (*key, *Failure) {
	if name == "" {
		return nil, refuse("ValidationException", "this fake wants KeyId in every request")
	}
	if !strings.HasPrefix(name, "arn:") {
		prefix := "arn:aws:kms:" + region + ":" + who.account + ":"
		if !strings.HasPrefix(name, "alias/") {
			prefix += "key/"
		}
		name = prefix + name
	}
	if target, ok := f.aliases[name]; ok {
		name = target
	}
	k := f.keys[name]
	if k == nil || k.region != region {
		return nil, refuse("NotFoundException", "Key '"+name+"' does not exist")
	}
	return k, nil
}

// usable checks the state and the kind of the key for cryptographic operations.
func (k *key) usable() *Failure {
	switch {
	case k.state == "Disabled":
		return refuse("DisabledException", k.arn+" is disabled.")
	case k.state != "Enabled" && k.state != "Updating":
		return refuse("KMSInvalidStateException", k.arn+" is in the wrong state.")
	case k.spec != "SYMMETRIC_DEFAULT" || k.usage != "ENCRYPT_DECRYPT":
		return refuse("InvalidKeyUsageException", k.arn+" is of another kind.")
	}
	return nil
}

func (k *key) encrypt(in input) (any, *Failure) {
	if failure := k.usable(); failure != nil {
		return nil, failure
	}
	bound, ok := canonicalContext(in.EncryptionContext)
	if len(in.Plaintext) == 0 || len(in.Plaintext) > maxPlaintext || !ok {
		return nil, refuse("ValidationException", "a length constraint is not met")
	}
	current := k.materials[len(k.materials)-1]
	id, _ := hex.DecodeString(current.id)
	aead := current.aead()
	blob := append(bytes.Clone(magic), id...)
	blob = append(blob, make([]byte, blobOverhead-len(blob)-aead.NonceSize()-aead.Overhead())...)
	header := bytes.Clone(blob)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	blob = aead.Seal(append(blob, nonce...), nonce, in.Plaintext, append(header, bound...))
	return map[string]any{"KeyId": k.arn, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
}

func (f *Fake) decrypt(k *key, in input) (any, *Failure) {
	if failure := k.usable(); failure != nil {
		return nil, failure
	}
	bound, ok := canonicalContext(in.EncryptionContext)
	if len(in.CiphertextBlob) == 0 || len(in.CiphertextBlob) > maxCiphertext || !ok {
		return nil, refuse("ValidationException", "a length constraint is not met")
	}
	invalid := refuse("InvalidCiphertextException", "")
	blob, isBlob := bytes.CutPrefix(in.CiphertextBlob, magic)
	if !isBlob || len(in.CiphertextBlob) <= blobOverhead {
		return nil, invalid
	}
	id := hex.EncodeToString(blob[:32])
	at := slices.IndexFunc(k.materials, func(m material) bool { return m.id == id })
	if at < 0 {
		for _, other := range f.keys {
			if slices.ContainsFunc(other.materials, func(m material) bool { return m.id == id }) {
				return nil, refuse("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
			}
		}
		return nil, invalid
	}
	aead := k.materials[at].aead()
	end := blobOverhead - aead.Overhead()
	start := end - aead.NonceSize()
	header := append(bytes.Clone(in.CiphertextBlob[:start]), bound...)
	plaintext, err := aead.Open(nil, in.CiphertextBlob[start:end], in.CiphertextBlob[end:], header)
	if err != nil {
		return nil, invalid
	}
	answer := map[string]any{"KeyId": k.arn, "Plaintext": plaintext, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	if k.origin != "AWS_CLOUDHSM" {
		answer["KeyMaterialId"] = id
	}
	return answer, nil
}

func (m material) aead() cipher.AEAD {
	block, _ := aes.NewCipher(m.key[:]) // neither fails for 32 bytes
	aead, _ := cipher.NewGCM(block)
	return aead
}

// canonicalContext returns an encryption context as bytes that no other has; false means that it is too long.
func canonicalContext(pairs map[string]string) ([]byte, bool) {
	text, err := json.Marshal(pairs) // sorted by key
	return text, err == nil && len(text) <= maxContext
}

func (k *key) describe() any {
	about := map[string]any{
		"AWSAccountId": k.account, "KeyId": k.id, "Arn": k.arn, "CreationDate": seconds(k.created), "Enabled": k.state == "Enabled",
		"KeyState": k.state, "KeySpec": k.spec, "KeyUsage": k.usage, "Origin": k.origin, "KeyManager": "CUSTOMER",
		"MultiRegion": strings.HasPrefix(k.id, "mrk-"),
	}
	if k.spec == "SYMMETRIC_DEFAULT" && k.origin != "AWS_CLOUDHSM" {
		about["CurrentKeyMaterialId"] = k.materials[len(k.materials)-1].id
	}
	if !k.deletion.IsZero() {
		about["DeletionDate"] = seconds(k.deletion)
	}
	if !k.ends.IsZero() {
		about["ExpirationModel"], about["ValidTo"] = "KEY_MATERIAL_EXPIRES", seconds(k.ends)
	}
	return map[string]any{"KeyMetadata": about}
}

// rotations lists the newest first: nobody promises an order.
func (k *key) rotations(in input) any {
	list := []map[string]any{}
	for _, m := range k.next {
		list = append(list, map[string]any{"KeyId": k.id, "KeyMaterialId": m.id, "KeyMaterialState": "PENDING_ROTATION"})
	}
	for i, m := range slices.Backward(k.materials) {
		entry := map[string]any{"KeyId": k.id, "KeyMaterialId": m.id, "KeyMaterialState": "NON_CURRENT"}
		if i == len(k.materials)-1 {
			entry["KeyMaterialState"] = "CURRENT"
		}
		if !m.rotated.IsZero() {
			maps.Copy(entry, map[string]any{"RotationDate": seconds(m.rotated), "RotationType": "ON_DEMAND"})
		} else if in.IncludeKeyMaterial != "ALL_KEY_MATERIAL" {
			continue
		}
		list = append(list, entry)
	}
	return map[string]any{"Rotations": list, "Truncated": false}
}

// seconds is how JSON 1.1 writes a time.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
