package kms

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
)

// RegisterV1beta1 makes server serve KMS v1beta1, for clusters that cannot use v2 yet. It stores neither key ids nor
// annotations, and takes ciphertexts of up to 64 KiB.
func RegisterV1beta1(server grpc.ServiceRegistrar, plugin *Plugin, release string) {
	kmsv1beta1.RegisterKeyManagementServiceServer(server, v1beta1{plugin: plugin, release: release})
}

type v1beta1 struct {
	kmsv1beta1.UnimplementedKeyManagementServiceServer
	plugin  *Plugin
	release string
}

const versionV1beta1 = "v1beta1"

func (s v1beta1) Version(context.Context, *kmsv1beta1.VersionRequest) (*kmsv1beta1.VersionResponse, error) {
	return &kmsv1beta1.VersionResponse{Version: versionV1beta1, RuntimeName: "trousseau", RuntimeVersion: s.release}, nil
}

func (s v1beta1) Encrypt(ctx context.Context, req *kmsv1beta1.EncryptRequest) (*kmsv1beta1.EncryptResponse, error) {
	defer clear(req.Plain)
	err := checkVersion(req.Version)
	var sealed Sealed
	if err == nil {
		sealed, err = s.plugin.encrypt(ctx, req.Plain, 0)
	}
	if err != nil {
		s.plugin.refusals.log(s.plugin.log, "v1beta1.Encrypt", "", err)
		return nil, grpcError(err)
	}
	return &kmsv1beta1.EncryptResponse{Cipher: sealed.Ciphertext}, nil
}

func (s v1beta1) Decrypt(ctx context.Context, req *kmsv1beta1.DecryptRequest) (*kmsv1beta1.DecryptResponse, error) {
	err := checkVersion(req.Version)
	var plaintext []byte
	if err == nil {
		plaintext, err = s.plugin.decrypt(ctx, Sealed{Ciphertext: req.Cipher})
	}
	if err != nil {
		s.plugin.refusals.log(s.plugin.log, "v1beta1.Decrypt", "", err)
		return nil, grpcError(err)
	}
	return &kmsv1beta1.DecryptResponse{Plain: plaintext}, nil
}

func checkVersion(version string) error {
	if version != versionV1beta1 {
		return invalid("answering", errors.New("request of another KMS version"), `this service speaks "v1beta1"`)
	}
	return nil
}
