package kmsclient

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope"
	"k8s.io/kms/pkg/service"
)

// v1beta1 is the API server's client for KMS v1beta1 behind the interface of v2. It has no key ids and no annotations,
// and the client sets its own deadlines.
type v1beta1 struct {
	service envelope.Service
}

func newV1beta1(ctx context.Context, endpoint string, timeout time.Duration) (service.Service, error) {
	svc, err := envelope.NewGRPCService(ctx, endpoint, timeout)
	return v1beta1{svc}, err
}

// Status wraps and unwraps "ping": there is no Status in v1beta1, and that is what the API server does.
func (s v1beta1) Status(context.Context) (*service.StatusResponse, error) {
	ciphertext, err := s.service.Encrypt([]byte("ping"))
	if err != nil {
		return nil, err
	}
	plaintext, err := s.service.Decrypt(ciphertext)
	if err != nil {
		return nil, err
	}
	if string(plaintext) != "ping" {
		return nil, fmt.Errorf("the plugin unwrapped %d other bytes than it had wrapped", len(plaintext))
	}
	return &service.StatusResponse{Version: "v1beta1", Healthz: "ok"}, nil
}

func (s v1beta1) Encrypt(_ context.Context, _ string, plaintext []byte) (*service.EncryptResponse, error) {
	ciphertext, err := s.service.Encrypt(plaintext)
	if err != nil {
		return nil, err
	}
	return &service.EncryptResponse{Ciphertext: ciphertext}, nil
}

func (s v1beta1) Decrypt(_ context.Context, _ string, request *service.DecryptRequest) ([]byte, error) {
	return s.service.Decrypt(request.Ciphertext)
}
