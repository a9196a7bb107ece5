package gcpkmstest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxSize is the limit in bytes of plaintext and of associated data of software keys.
const maxSize = 64 << 10

func versionName(number int) string { return fmt.Sprintf("%s/cryptoKeyVersions/%d", Key, number) }

// permissionFor returns the permission that a method needs, or nothing.
func permissionFor(method string) string {
	switch path.Base(method) {
	case "Encrypt":
		return "cloudkms.cryptoKeyVersions.useToEncrypt"
	case "Decrypt":
		return "cloudkms.cryptoKeyVersions.useToDecrypt"
	case "GetCryptoKey":
		return "cloudkms.cryptoKeys.get"
	case "GetCryptoKeyVersion":
		return "cloudkms.cryptoKeyVersions.get"
	case "ListCryptoKeyVersions":
		return "cloudkms.cryptoKeyVersions.list"
	}
	return ""
}

// admit checks the token, the header that the request is routed by, and the permission.
func (f *Fake) admit(ctx context.Context, request any, method string) error {
	header, _ := metadata.FromIncomingContext(ctx)
	first := func(name string) string { return strings.Join(header.Get(name), ",") }
	f.mu.Lock()
	defer f.mu.Unlock()
	token, _ := strings.CutPrefix(first("authorization"), "Bearer ")
	if ends, known := f.tokens[token]; !known || time.Now().After(ends) {
		f.refused++
		return detailed(codes.Unauthenticated, "Request had invalid authentication credentials.",
			&errdetails.ErrorInfo{Reason: "ACCESS_TOKEN_EXPIRED", Domain: "googleapis.com"})
	}
	if !slices.Contains(strings.Split(first("x-goog-request-params"), "&"), routing(request)) {
		return status.Error(codes.InvalidArgument, "The request has no or a wrong routing header.")
	}
	f.quotaProject = first("x-goog-user-project")
	permission := permissionFor(method)
	if permission != "" && !slices.Contains(f.permissions, permission) {
		return detailed(codes.PermissionDenied, fmt.Sprintf(
			"Permission '%s' denied on resource '%s' (or it may not exist).", permission, Key),
			&errdetails.ErrorInfo{Reason: "IAM_PERMISSION_DENIED", Domain: "cloudkms.googleapis.com"})
	}
	return nil
}

func routing(request any) string {
	switch r := request.(type) {
	case interface{ GetName() string }:
		return "name=" + url.QueryEscape(r.GetName())
	case interface{ GetParent() string }:
		return "parent=" + url.QueryEscape(r.GetParent())
	case interface{ GetResource() string }:
		return "resource=" + url.QueryEscape(r.GetResource())
	}
	return ""
}

func detailed(code codes.Code, message string, detail protoadapt.MessageV1) error {
	s, err := status.New(code, message).WithDetails(detail)
	if err != nil {
		return err
	}
	return s.Err()
}

// GetCryptoKey implements the service.
func (f *Fake) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.GetName() != Key {
		return nil, notFound(r.GetName())
	}
	return proto.CloneOf(f.key), nil
}

// GetCryptoKeyVersion implements the service.
func (f *Fake) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

// ListCryptoKeyVersions implements the service, in pages of two.
func (f *Fake) ListCryptoKeyVersions(
	_ context.Context, r *kmspb.ListCryptoKeyVersionsRequest,
) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.GetParent() != Key {
		return nil, notFound(r.GetParent())
	}
	start := len(r.GetPageToken())
	end := min(start+2, len(f.versions))
	answer := &kmspb.ListCryptoKeyVersionsResponse{}
	for _, v := range f.versions[start:end] {
		answer.CryptoKeyVersions = append(answer.CryptoKeyVersions, proto.CloneOf(v.CryptoKeyVersion))
	}
	if end < len(f.versions) {
		answer.NextPageToken = strings.Repeat("x", end)
	}
	return answer, nil
}

// TestIamPermissions implements the service.
func (f *Fake) TestIamPermissions(
	_ context.Context, r *iampb.TestIamPermissionsRequest,
) (*iampb.TestIamPermissionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &iampb.TestIamPermissionsResponse{}
	for _, permission := range r.GetPermissions() {
		if slices.Contains(f.permissions, permission) {
			answer.Permissions = append(answer.Permissions, permission)
		}
	}
	return answer, nil
}

// Encrypt implements the service.
func (f *Fake) Encrypt(_ context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.GetName()
	if name == Key {
		if f.key.GetPrimary() == nil {
			return nil, status.Error(codes.FailedPrecondition, "The key has no primary version.")
		}
		name = f.key.GetPrimary().GetName()
	}
	v, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if err := checkInput("plaintext", r.GetPlaintext(), r.GetPlaintextCrc32C(), 1); err != nil {
		return nil, err
	}
	aad, aadSum := r.GetAdditionalAuthenticatedData(), r.GetAdditionalAuthenticatedDataCrc32C()
	if err := checkInput("additional_authenticated_data", aad, aadSum, 0); err != nil {
		return nil, err
	}
	if err := v.usable(); err != nil {
		return nil, err
	}
	ciphertext, err := f.seal(v, r.GetPlaintext(), aad)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &kmspb.EncryptResponse{
		Name: name, Ciphertext: ciphertext, CiphertextCrc32C: checksum(ciphertext),
		VerifiedPlaintextCrc32C:                   r.GetPlaintextCrc32C() != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: aadSum != nil,
		ProtectionLevel:                           v.GetProtectionLevel(),
	}, nil
}

// Decrypt implements the service.
func (f *Fake) Decrypt(_ context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.GetName() != Key {
		return nil, notFound(r.GetName())
	}
	if err := checkInput("ciphertext", r.GetCiphertext(), r.GetCiphertextCrc32C(), 1); err != nil {
		return nil, err
	}
	aad := r.GetAdditionalAuthenticatedData()
	if err := checkInput("additional_authenticated_data", aad, r.GetAdditionalAuthenticatedDataCrc32C(), 0); err != nil {
		return nil, err
	}
	for i, v := range f.versions {
		payload, ok := bytes.CutPrefix(r.GetCiphertext(), f.prefix(i+1))
		if !ok {
			continue
		}
		if err := v.usable(); err != nil {
			return nil, err
		}
		plaintext, err := v.open(payload, aad)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
		}
		return &kmspb.DecryptResponse{
			Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext), ProtectionLevel: v.GetProtectionLevel(),
			UsedPrimary: v.CryptoKeyVersion == f.key.GetPrimary(),
		}, nil
	}
	return nil, status.Error(codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
}

func (f *Fake) find(name string) (*version, error) {
	for _, v := range f.versions {
		if v.GetName() == name {
			return v, nil
		}
	}
	return nil, notFound(name)
}

func notFound(name string) error {
	return status.Error(codes.NotFound, fmt.Sprintf("CryptoKey %s not found.", name))
}

// usable refuses as the service does: with a violation that is named after the state.
func (v *version) usable() error {
	if v.GetState() == kmspb.CryptoKeyVersion_ENABLED {
		return nil
	}
	return detailed(codes.FailedPrecondition, fmt.Sprintf("%s is not enabled, current state is: %s.", v.GetName(), v.GetState()),
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: "KEY_" + v.GetState().String(), Subject: v.GetName()},
		}})
}

func checkInput(field string, b []byte, sum *wrapperspb.Int64Value, least int) error {
	switch {
	case len(b) < least || len(b) > maxSize:
		return status.Errorf(codes.InvalidArgument, "The field %s has a size of %d bytes.", field, len(b))
	case sum != nil && sum.GetValue() != checksum(b).GetValue():
		return status.Errorf(codes.InvalidArgument, "The checksum in %s_crc32c does not match the data.", field)
	}
	return nil
}

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// The ciphertexts of the service are a message of two fields (what published ones show): one of 36 bytes that tells key and
// version, and one of the plaintext's size and 41 bytes. So are the fake's.
//
//	0a 24 | 00 00 | 30 bytes of the key | 4 bytes of the version
//	12 | size | nonce, ciphertext and tag of 13 zeros and the plaintext
const filler = 13

// prefix is everything before the size of the second field.
func (f *Fake) prefix(number int) []byte {
	return binary.BigEndian.AppendUint32(slices.Concat([]byte{0x0a, 36, 0, 0}, f.identity[:]), uint32(number))
}

func (f *Fake) seal(v *version, plaintext, aad []byte) ([]byte, error) {
	aead, err := v.aead()
	if err != nil {
		return nil, err
	}
	payload := aead.Seal(nil, nil, append(make([]byte, filler), plaintext...), aad)
	number := slices.Index(f.versions, v) + 1
	return slices.Concat(f.prefix(number), binary.AppendUvarint([]byte{0x12}, uint64(len(payload))), payload), nil
}

func (v *version) open(payload, aad []byte) ([]byte, error) {
	if len(payload) < 2 || payload[0] != 0x12 {
		return nil, errors.New("the second field is missing")
	}
	size, n := binary.Uvarint(payload[1:])
	if payload = payload[1+max(n, 0):]; n <= 0 || size != uint64(len(payload)) {
		return nil, errors.New("the second field has another size")
	}
	aead, err := v.aead()
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, payload, aad)
	if err != nil || len(plaintext) < filler {
		return nil, errors.New("not authentic")
	}
	return plaintext[filler:], nil
}

func (v *version) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(v.material[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
