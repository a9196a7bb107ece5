package kms

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	kmsv2 "k8s.io/kms/apis/v2"
)

// RegisterV2 makes server serve KMS v2.
func RegisterV2(server grpc.ServiceRegistrar, plugin *Plugin) {
	kmsv2.RegisterKeyManagementServiceServer(server, v2{plugin: plugin})
}

type v2 struct {
	kmsv2.UnimplementedKeyManagementServiceServer
	plugin *Plugin
}

// Status answers "ok" or an error, never another healthz text: with a text beside a valid key id the API server goes on
// writing for ever (kubernetes issue 138950).
func (s v2) Status(ctx context.Context, _ *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	keyID, err := s.plugin.KeyID(ctx)
	if err != nil {
		return nil, grpcError(err) // the probes log it, when it changes
	}
	return &kmsv2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: keyID}, nil
}

func (s v2) Encrypt(ctx context.Context, req *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	defer clear(req.Plaintext)
	sealed, err := s.plugin.encrypt(ctx, req.Plaintext, maxCiphertext)
	if err != nil {
		s.plugin.refusals.log(s.plugin.log, "v2.Encrypt", req.Uid, err)
		return nil, grpcError(err)
	}
	return &kmsv2.EncryptResponse{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyID, Annotations: sealed.Annotations}, nil
}

func (s v2) Decrypt(ctx context.Context, req *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	plaintext, err := s.decrypt(ctx, req)
	if err != nil {
		s.plugin.refusals.log(s.plugin.log, "v2.Decrypt", req.Uid, err)
		return nil, grpcError(err)
	}
	return &kmsv2.DecryptResponse{Plaintext: plaintext}, nil
}

func (s v2) decrypt(ctx context.Context, req *kmsv2.DecryptRequest) ([]byte, error) {
	if req.KeyId == "" {
		return nil, invalid("opening", errors.New("request without a key id"), "KMS v2 always sends the one stored in etcd")
	}
	return s.plugin.decrypt(ctx, Sealed{Ciphertext: req.Ciphertext, KeyID: req.KeyId, Annotations: req.Annotations})
}
