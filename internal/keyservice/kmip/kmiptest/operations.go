package kmiptest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"
)

// route installs the operations. The executor itself answers DiscoverVersions.
func (f *Fake) route() {
	handle(f, kmip.OperationLocate, f.locate)
	handle(f, kmip.OperationGetAttributes, f.attributes)
	handle(f, kmip.OperationEncrypt, f.encrypt)
	handle(f, kmip.OperationDecrypt, f.decrypt)
	handle(f, kmip.OperationMAC, f.mac)
}

// handle installs an operation, which is called with f.mu held.
func handle[Request, Answer kmip.OperationPayload](f *Fake, operation kmip.Operation, do func(Request) (Answer, error)) {
	f.executor.Route(operation, kmipserver.HandleFunc(func(_ context.Context, request Request) (kmip.OperationPayload, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.reason != 0 {
			return nil, kmipserver.Errorf(f.reason, "%s", f.message)
		}
		answer, err := do(request)
		if err != nil {
			return nil, err // and not a nil Answer in an interface that is not nil
		}
		return answer, nil
	}))
}

func (f *Fake) locate(request *payloads.LocateRequestPayload) (*payloads.LocateResponsePayload, error) {
	answer := new(payloads.LocateResponsePayload)
	for id, o := range f.objects {
		fits := func(a kmip.Attribute) bool {
			switch value := a.AttributeValue.(type) {
			case kmip.Name:
				return value.NameValue == o.Name
			case kmip.ObjectType:
				return value == kmip.ObjectTypeSymmetricKey
			}
			return false
		}
		if !slices.ContainsFunc(request.Attribute, func(a kmip.Attribute) bool { return !fits(a) }) {
			answer.UniqueIdentifier = append(answer.UniqueIdentifier, id)
		}
	}
	return answer, nil
}

func (f *Fake) attributes(request *payloads.GetAttributesRequestPayload) (*payloads.GetAttributesResponsePayload, error) {
	o, err := f.object(request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	answer := &payloads.GetAttributesResponsePayload{UniqueIdentifier: request.UniqueIdentifier}
	tell := func(name kmip.AttributeName, value any) {
		if slices.Contains(request.AttributeName, name) && !slices.Contains(o.Hidden, name) {
			answer.Attribute = append(answer.Attribute, kmip.Attribute{AttributeName: name, AttributeValue: value})
		}
	}
	tell(kmip.AttributeNameObjectType, kmip.ObjectTypeSymmetricKey)
	tell(kmip.AttributeNameState, o.State)
	tell(kmip.AttributeNameCryptographicAlgorithm, o.Algorithm)
	tell(kmip.AttributeNameCryptographicLength, int32(8*len(o.material)))
	tell(kmip.AttributeNameCryptographicUsageMask, o.Usage)
	tell(kmip.AttributeNameInitialDate, o.InitialDate)
	tell(kmip.AttributeNameSensitive, o.Sensitive)
	tell(kmip.AttributeNameExtractable, o.Extractable)
	if !o.Activation.IsZero() {
		tell(kmip.AttributeNameActivationDate, o.Activation)
	}
	if !o.Deactivation.IsZero() {
		tell(kmip.AttributeNameDeactivationDate, o.Deactivation)
	}
	if o.replaces != "" {
		tell(kmip.AttributeNameLink, kmip.Link{LinkType: kmip.LinkTypeReplacedObjectLink, LinkedObjectIdentifier: o.replaces})
	}
	if o.replacedBy != "" {
		tell(kmip.AttributeNameLink, kmip.Link{LinkType: kmip.LinkTypeReplacementObjectLink, LinkedObjectIdentifier: o.replacedBy})
	}
	return answer, nil
}

func (f *Fake) encrypt(request *payloads.EncryptRequestPayload) (*payloads.EncryptResponsePayload, error) {
	block, err := f.cipher(request.UniqueIdentifier, kmip.CryptographicUsageEncrypt, kmip.StateActive)
	if err != nil {
		return nil, err
	}
	answer := &payloads.EncryptResponsePayload{UniqueIdentifier: request.UniqueIdentifier}
	mode, err := modeOf(request.CryptographicParameters, request.IVCounterNonce)
	switch {
	case err != nil:
		return nil, err
	case mode == kmip.BlockCipherModeGCM:
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sealed := gcm.Seal(nil, request.IVCounterNonce, request.Data, request.AuthenticatedEncryptionAdditionalData)
		answer.Data, answer.AuthenticatedEncryptionTag = sealed[:len(request.Data)], sealed[len(request.Data):]
	default:
		pad := aes.BlockSize - len(request.Data)%aes.BlockSize
		answer.Data = append(slices.Clone(request.Data), slices.Repeat([]byte{byte(pad)}, pad)...)
		cipher.NewCBCEncrypter(block, request.IVCounterNonce).CryptBlocks(answer.Data, answer.Data)
	}
	return answer, nil
}

func (f *Fake) decrypt(request *payloads.DecryptRequestPayload) (*payloads.DecryptResponsePayload, error) {
	block, err := f.cipher(request.UniqueIdentifier, kmip.CryptographicUsageDecrypt,
		kmip.StateActive, kmip.StateDeactivated, kmip.StateCompromised)
	if err != nil {
		return nil, err
	}
	answer := &payloads.DecryptResponsePayload{UniqueIdentifier: request.UniqueIdentifier}
	mode, err := modeOf(request.CryptographicParameters, request.IVCounterNonce)
	switch {
	case err != nil:
		return nil, err
	case mode == kmip.BlockCipherModeGCM:
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sealed := append(slices.Clone(request.Data), request.AuthenticatedEncryptionTag...)
		answer.Data, err = gcm.Open(nil, request.IVCounterNonce, sealed, request.AuthenticatedEncryptionAdditionalData)
		if err != nil {
			return nil, kmipserver.Errorf(kmip.ResultReasonCryptographicFailure, "the tag is another one")
		}
	default:
		if len(request.Data) == 0 || len(request.Data)%aes.BlockSize != 0 {
			return nil, kmipserver.ErrInvalidField
		}
		data := slices.Clone(request.Data)
		cipher.NewCBCDecrypter(block, request.IVCounterNonce).CryptBlocks(data, data)
		pad := int(data[len(data)-1])
		if pad == 0 || pad > aes.BlockSize {
			return nil, kmipserver.Errorf(kmip.ResultReasonCryptographicFailure, "the padding is wrong")
		}
		answer.Data = data[:len(data)-pad]
	}
	return answer, nil
}

// mac makes an HMAC-SHA256. The library has no type for this operation.
func (f *Fake) mac(request *kmip.UnknownPayload) (*kmip.UnknownPayload, error) {
	const tagMACData = 0x4200C6
	var id string
	var data []byte
	var algorithm ttlv.Enum
	for _, field := range request.Fields {
		switch value := field.Value.(type) {
		case string:
			id = value
		case []byte:
			data = value
		case ttlv.Struct:
			algorithm, _ = value[0].Value.(ttlv.Enum)
		}
	}
	if kmip.CryptographicAlgorithm(algorithm) != kmip.CryptographicAlgorithmHMACSHA256 || len(data) == 0 {
		return nil, kmipserver.ErrInvalidField
	}
	o, err := f.usable(id, kmip.CryptographicUsageMACGenerate, kmip.StateActive)
	if err != nil {
		return nil, err
	}
	sum := hmac.New(sha256.New, o.material)
	sum.Write(data)
	return kmip.NewUnknownPayload(kmip.OperationMAC, ttlv.Value{Tag: kmip.TagUniqueIdentifier, Value: id},
		ttlv.Value{Tag: tagMACData, Value: sum.Sum(nil)}), nil
}

func (f *Fake) object(id string) (*Object, error) {
	o := f.objects[id]
	if o == nil {
		return nil, kmipserver.ErrItemNotFound
	}
	return o, nil
}

// usable returns an object that is in one of the states and has the usage.
func (f *Fake) usable(id string, usage kmip.CryptographicUsageMask, states ...kmip.State) (*Object, error) {
	o, err := f.object(id)
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains(states, o.State):
		return nil, kmipserver.Errorf(kmip.ResultReasonIllegalOperation, "the object is in state %s", ttlv.EnumStr(o.State))
	case o.Usage&usage == 0:
		return nil, kmipserver.Errorf(kmip.ResultReasonPermissionDenied, "the usage mask forbids it")
	}
	return o, nil
}

func (f *Fake) cipher(id string, usage kmip.CryptographicUsageMask, states ...kmip.State) (cipher.Block, error) {
	o, err := f.usable(id, usage, states...)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(o.material)
}

// modeOf checks the parameters of Encrypt and Decrypt.
func modeOf(p *kmip.CryptographicParameters, iv []byte) (kmip.BlockCipherMode, error) {
	switch {
	case p == nil || p.CryptographicAlgorithm != kmip.CryptographicAlgorithmAES:
		return 0, kmipserver.ErrInvalidField
	case p.BlockCipherMode == kmip.BlockCipherModeGCM && p.TagLength == 16 && len(iv) == 12:
	case p.BlockCipherMode == kmip.BlockCipherModeCBC && p.PaddingMethod == kmip.PaddingMethodPKCS5 && len(iv) == aes.BlockSize:
	default:
		return 0, kmipserver.ErrInvalidField
	}
	return p.BlockCipherMode, nil
}
