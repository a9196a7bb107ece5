//go:build cgo

package pkcs11_test

import (
	"bytes"
	"fmt"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// kinds is what a code must mean where it can come from: a call of Unwrap, during a log in or without one.
var kinds = map[keyservice.Kind][]uint{
	keyservice.Unavailable: {
		p11.CKR_CANCEL, p11.CKR_HOST_MEMORY, p11.CKR_SLOT_ID_INVALID, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED,
		p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_MEMORY, p11.CKR_DEVICE_REMOVED, p11.CKR_FUNCTION_CANCELED, p11.CKR_OPERATION_ACTIVE,
		p11.CKR_OPERATION_NOT_INITIALIZED, p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID,
		p11.CKR_SESSION_READ_WRITE_SO_EXISTS, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED,
		p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_USER_TOO_MANY_TYPES,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_MUTEX_BAD, p11.CKR_MUTEX_NOT_LOCKED, p11.CKR_VENDOR_DEFINED, 0x8000_1234, 0x7777,
	},
	keyservice.Throttled: {p11.CKR_SESSION_COUNT},
	keyservice.NotFound: {
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_WRAPPING_KEY_HANDLE_INVALID,
		p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID,
	},
	keyservice.Denied: {
		p11.CKR_ACTION_PROHIBITED, p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED,
		p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_FUNCTION_REJECTED,
	},
	keyservice.Disabled: {p11.CKR_KEY_FUNCTION_NOT_PERMITTED},
	keyservice.Corrupt: {
		p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE,
	},
	keyservice.Invalid: {
		p11.CKR_ARGUMENTS_BAD, p11.CKR_NEED_TO_CREATE_THREADS, p11.CKR_CANT_LOCK, p11.CKR_ATTRIBUTE_READ_ONLY,
		p11.CKR_ATTRIBUTE_SENSITIVE, p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_DATA_INVALID,
		p11.CKR_DATA_LEN_RANGE, p11.CKR_FUNCTION_NOT_PARALLEL, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_KEY_SIZE_RANGE,
		p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_KEY_INDIGESTIBLE, p11.CKR_KEY_NOT_WRAPPABLE, p11.CKR_KEY_UNEXTRACTABLE,
		p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_SESSION_PARALLEL_NOT_SUPPORTED,
		p11.CKR_SESSION_READ_ONLY, p11.CKR_TEMPLATE_INCOMPLETE, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_TOKEN_WRITE_PROTECTED,
		p11.CKR_UNWRAPPING_KEY_SIZE_RANGE, p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, p11.CKR_USER_TYPE_INVALID,
		p11.CKR_WRAPPING_KEY_SIZE_RANGE, p11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT, p11.CKR_BUFFER_TOO_SMALL,
	},
}

// TestEveryCode lets functions answer with each code, in the call itself and in connecting before it.
func TestEveryCode(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, f.module))
	w := keyservicetest.Wrap(t, key, "")
	for kind, codes := range kinds {
		for _, code := range codes {
			for _, function := range []string{"C_DecryptInit", "C_OpenSession"} {
				key := key
				if function == "C_OpenSession" {
					key = open(t, config(token, f.module)) // which has no session yet
				}
				what := fmt.Sprintf("%s answers %v", function, p11.Error(code))
				repair := f.order(function, code)
				_, err := key.Unwrap(t.Context(), w, aad)
				keyservicetest.CheckKind(t, what, err, kind, "0x")
				_, err = key.Wrap(t.Context(), w.Version, secret, aad)
				keyservicetest.CheckKind(t, what, err, kind, "0x")
				repair()
				keyservicetest.Unwrap(t, key, w)
			}
		}
	}
}

// TestWhatModulesSayOfDamage has the module answer with codes that may mean the bytes: to bytes that are damaged, which the
// key tells by opening others, and to all.
func TestWhatModulesSayOfDamage(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	token.GenerateRSA("kek-1")
	for mechanism, function := range map[string]string{
		"aes-gcm": "C_Decrypt", "aes-key-wrap-pad": "C_UnwrapKey", "rsa-oaep": "C_Decrypt",
	} {
		c := config(token, f.module)
		c.Mechanism = mechanism
		key := open(t, c)
		w := keyservicetest.Wrap(t, key, "")
		damaged := keyservice.Wrapped{Version: w.Version, Bytes: bytes.Clone(w.Bytes)}
		damaged.Bytes[20] ^= 1
		for code, kind := range map[uint]keyservice.Kind{
			p11.CKR_GENERAL_ERROR: keyservice.Unavailable, p11.CKR_FUNCTION_FAILED: keyservice.Unavailable,
			p11.CKR_DEVICE_ERROR: keyservice.Unavailable, p11.CKR_VENDOR_DEFINED + 7: keyservice.Unavailable,
			p11.CKR_DATA_INVALID: keyservice.Invalid, p11.CKR_DATA_LEN_RANGE: keyservice.Invalid,
		} {
			what := fmt.Sprintf("%s, %v", mechanism, p11.Error(code))
			repair := f.order("damaged", code)
			_, err := key.Unwrap(t.Context(), damaged, aad)
			keyservicetest.CheckKind(t, what+" to damaged bytes", err, keyservice.Corrupt, "do not open")
			repair()
			repair = f.order(function, code)
			_, err = key.Unwrap(t.Context(), w, aad)
			keyservicetest.CheckKind(t, what+" to all", err, kind, "0x")
			repair()
			keyservicetest.Unwrap(t, key, w)
		}
	}
}

func TestModuleThatCannotBeLoaded(t *testing.T) {
	token := token(t)
	for name, path := range map[string]string{"missing": "/no/such/module.so", "no library": token.Conf} {
		_, err := open(t, config(token, path)).Wrap(t.Context(), "", secret, aad)
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, "cannot be loaded")
	}
}

// TestSoftHSMRefusesSHA256 shows what is documented: SoftHSM 2.6 does RSA-OAEP with SHA-1 alone, and it is not used.
func TestSoftHSMRefusesSHA256(t *testing.T) {
	token := token(t)
	token.GenerateRSA("kek-1")
	c := config(token, module)
	c.Mechanism = "rsa-oaep"
	key := open(t, c)
	newest, _, err := key.Versions(t.Context())
	if err != nil || newest.State != keyservice.StateEnabled {
		t.Errorf("newest %v, error %v", newest, err)
	}
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "wrapping", err, keyservice.Invalid, "CKR_ARGUMENTS_BAD")
	_, err = key.Unwrap(t.Context(), keyservice.Wrapped{Version: newest.ID, Bytes: make([]byte, 256)}, aad)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Invalid, "CKR_ARGUMENTS_BAD")
}

// TestInitializationVectors sets hsmIV wrongly, both ways. A vector of zeros is never taken for one.
func TestInitializationVectors(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	c := config(token, module)
	c.HSMIV = true
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "an HSM that makes no vectors", err, keyservice.Invalid, "no initialization vector")
	f.order("hsm-iv", 0)
	_, err = open(t, config(token, f.module)).Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "an HSM that takes no vectors", err, keyservice.Invalid, "CKR_MECHANISM_PARAM_INVALID")
}
