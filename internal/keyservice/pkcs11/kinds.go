//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

var (
	errClosed    = errors.New("the key is closed")
	errStopped   = errors.New("the module is being started anew")
	errNotLoaded = errors.New("the module cannot be loaded: it is missing, for another machine or no PKCS#11 module")
	errNoToken   = errors.New("the module shows no such token")
	errTokens    = errors.New("more than one token is called so")
	errPINFile   = errors.New("the PIN cannot be read")
	errRefused   = errors.New("the token refused this PIN before, and it is not tried again")
	errFinalTry  = errors.New("the token locks after one more wrong PIN, and this one is not tried")
	errNoKey     = errors.New("the token has no such key")
	errKeys      = errors.New("more than one key is called so")
	errNoVersion = errors.New("the token has no key of this version")
	errDisabled  = errors.New("a key that would have to be this version may not be used, so that it cannot be told")
	errOpen      = errors.New("the bytes do not open: changed, or wrapped with other associated data or by another key")
	errSize      = errors.New("the secret is empty or too long")
	errIV        = errors.New("the HSM gave no initialization vector")
	errAnswer    = errors.New("the HSM's answer has another size than it must have")
)

// remedy is what may put an error right within the call that it happened to.
type remedy uint8

const (
	none      remedy = iota
	reconnect        // with another session, log in and look for the key
	restart          // the library too, which may hold on to a token that was away
)

const (
	hintAway    = "see that the HSM runs and that this host reaches it; `pkcs11-tool --module MODULE -L` shows what the module sees"
	hintModule  = "look up what the module's manual says of this code, and at the module's own log"
	hintUnfit   = "see that the module, the type of the key and the mechanism fit: `pkcs11-tool --module MODULE -M`"
	hintPIN     = "write the right PIN into pinFile; if the token's PIN was changed to fit the file instead, restart the daemon"
	hintLocked  = "let the security officer unlock the PIN (C_InitPIN), then write the right one into pinFile"
	hintTry     = "log in once by hand with the right PIN, which resets the count: `pkcs11-tool --module MODULE -l -O`"
	hintExpired = "give the token's user a new PIN and write it into pinFile"
	hintNoPIN   = "let the security officer set the user's PIN: `pkcs11-tool --init-pin`"
	hintOfficer = "log the security officer out of the token"
	hintAllowed = "set the CKA_ attributes of the key again that allow this (ENCRYPT and DECRYPT, or WRAP and UNWRAP)"
	hintGone    = "the key was deleted or has another label: restore it from the HSM's backup"
	hintCorrupt = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup"
	hintRefused = "see which mechanisms the module and CKA_ALLOWED_MECHANISMS of the key allow: AES-GCM needs AES-ECB beside it, " +
		"for the ids of versions, and may need `hsmIV: true`; RSA-OAEP needs SHA-256, and SHA-1 is never used instead"
	hintBusy = "the token has no session left: see who else uses it, or raise its limit"
	hintSlow = "the HSM did not answer in time: look at its load and at the network between"
)

// judgement is what is made of an error.
type judgement struct {
	kind   keyservice.Kind
	remedy remedy
	vague  bool // some modules answer so to bytes that do not open
	hint   string
}

// codes gives the codes of PKCS#11 2.40 their kinds. What is not here cannot be an answer to the functions that are called.
var codes = map[p11.Error]judgement{
	p11.CKR_CANCEL:                           {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_HOST_MEMORY:                      {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_SLOT_ID_INVALID:                  {keyservice.Unavailable, restart, false, hintAway},
	p11.CKR_GENERAL_ERROR:                    {keyservice.Unavailable, restart, true, hintAway},
	p11.CKR_FUNCTION_FAILED:                  {keyservice.Unavailable, restart, true, hintAway},
	p11.CKR_ARGUMENTS_BAD:                    {keyservice.Invalid, none, false, hintRefused},
	p11.CKR_NEED_TO_CREATE_THREADS:           {keyservice.Invalid, none, false, hintModule},
	p11.CKR_CANT_LOCK:                        {keyservice.Invalid, none, false, hintModule},
	p11.CKR_ATTRIBUTE_READ_ONLY:              {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_ATTRIBUTE_SENSITIVE:              {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_ATTRIBUTE_TYPE_INVALID:           {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_ATTRIBUTE_VALUE_INVALID:          {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_ACTION_PROHIBITED:                {keyservice.Denied, none, false, hintAllowed},
	p11.CKR_DATA_INVALID:                     {keyservice.Invalid, none, true, hintUnfit},
	p11.CKR_DATA_LEN_RANGE:                   {keyservice.Invalid, none, true, hintUnfit},
	p11.CKR_DEVICE_ERROR:                     {keyservice.Unavailable, restart, true, hintAway},
	p11.CKR_DEVICE_MEMORY:                    {keyservice.Unavailable, none, false, hintBusy},
	p11.CKR_DEVICE_REMOVED:                   {keyservice.Unavailable, restart, false, hintAway},
	p11.CKR_ENCRYPTED_DATA_INVALID:           {keyservice.Corrupt, none, false, hintCorrupt},
	p11.CKR_ENCRYPTED_DATA_LEN_RANGE:         {keyservice.Corrupt, none, false, hintCorrupt},
	p11.CKR_FUNCTION_CANCELED:                {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_FUNCTION_NOT_PARALLEL:            {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_FUNCTION_NOT_SUPPORTED:           {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_KEY_HANDLE_INVALID:               {keyservice.NotFound, reconnect, false, hintGone},
	p11.CKR_KEY_SIZE_RANGE:                   {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_KEY_TYPE_INCONSISTENT:            {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_KEY_INDIGESTIBLE:                 {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_KEY_FUNCTION_NOT_PERMITTED:       {keyservice.Disabled, none, false, hintAllowed},
	p11.CKR_KEY_NOT_WRAPPABLE:                {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_KEY_UNEXTRACTABLE:                {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_MECHANISM_INVALID:                {keyservice.Invalid, none, false, hintRefused},
	p11.CKR_MECHANISM_PARAM_INVALID:          {keyservice.Invalid, none, false, hintRefused},
	p11.CKR_OBJECT_HANDLE_INVALID:            {keyservice.NotFound, reconnect, false, hintGone},
	p11.CKR_OPERATION_ACTIVE:                 {keyservice.Unavailable, reconnect, false, hintModule},
	p11.CKR_OPERATION_NOT_INITIALIZED:        {keyservice.Unavailable, reconnect, false, hintModule},
	p11.CKR_PIN_INCORRECT:                    {keyservice.Denied, none, false, hintPIN},
	p11.CKR_PIN_INVALID:                      {keyservice.Denied, none, false, hintPIN},
	p11.CKR_PIN_LEN_RANGE:                    {keyservice.Denied, none, false, hintPIN},
	p11.CKR_PIN_EXPIRED:                      {keyservice.Denied, none, false, hintExpired},
	p11.CKR_PIN_LOCKED:                       {keyservice.Denied, none, false, hintLocked},
	p11.CKR_SESSION_CLOSED:                   {keyservice.Unavailable, reconnect, false, hintAway},
	p11.CKR_SESSION_COUNT:                    {keyservice.Throttled, none, false, hintBusy},
	p11.CKR_SESSION_HANDLE_INVALID:           {keyservice.Unavailable, reconnect, false, hintAway},
	p11.CKR_SESSION_PARALLEL_NOT_SUPPORTED:   {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_SESSION_READ_ONLY:                {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_SESSION_READ_WRITE_SO_EXISTS:     {keyservice.Unavailable, none, false, hintOfficer},
	p11.CKR_TEMPLATE_INCOMPLETE:              {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_TEMPLATE_INCONSISTENT:            {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_TOKEN_NOT_PRESENT:                {keyservice.Unavailable, restart, false, hintAway},
	p11.CKR_TOKEN_NOT_RECOGNIZED:             {keyservice.Unavailable, restart, false, hintAway},
	p11.CKR_TOKEN_WRITE_PROTECTED:            {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID:    {keyservice.NotFound, reconnect, false, hintGone},
	p11.CKR_UNWRAPPING_KEY_SIZE_RANGE:        {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN:   {keyservice.Unavailable, none, false, hintOfficer},
	p11.CKR_USER_NOT_LOGGED_IN:               {keyservice.Unavailable, reconnect, false, hintAway},
	p11.CKR_USER_PIN_NOT_INITIALIZED:         {keyservice.Denied, none, false, hintNoPIN},
	p11.CKR_USER_TOO_MANY_TYPES:              {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_USER_TYPE_INVALID:                {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_WRAPPED_KEY_INVALID:              {keyservice.Corrupt, none, false, hintCorrupt},
	p11.CKR_WRAPPED_KEY_LEN_RANGE:            {keyservice.Corrupt, none, false, hintCorrupt},
	p11.CKR_WRAPPING_KEY_HANDLE_INVALID:      {keyservice.NotFound, reconnect, false, hintGone},
	p11.CKR_WRAPPING_KEY_SIZE_RANGE:          {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT:   {keyservice.Invalid, none, false, hintUnfit},
	p11.CKR_BUFFER_TOO_SMALL:                 {keyservice.Invalid, none, false, hintModule},
	p11.CKR_CRYPTOKI_NOT_INITIALIZED:         {keyservice.Unavailable, restart, false, hintAway},
	p11.CKR_MUTEX_BAD:                        {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_MUTEX_NOT_LOCKED:                 {keyservice.Unavailable, none, false, hintModule},
	p11.CKR_FUNCTION_REJECTED:                {keyservice.Denied, none, false, hintModule},
}

// other is the judgement of codes that a maker has defined, or that this table does not know.
var other = judgement{keyservice.Unavailable, none, true, hintModule}

// causes are the judgements of errors that are no code. The first that matches counts, before any code.
var causes = []struct {
	cause error
	judgement
}{
	{context.Canceled, judgement{kind: keyservice.Unavailable, hint: hintSlow}},
	{context.DeadlineExceeded, judgement{kind: keyservice.Unavailable, hint: hintSlow}},
	{errClosed, judgement{kind: keyservice.Unavailable, hint: "this daemon is shutting down or reloading; try again"}},
	{errStopped, judgement{kind: keyservice.Unavailable, hint: "try again"}},
	{errNotLoaded, judgement{kind: keyservice.Invalid, hint: "name the module's .so file; `ldd` shows what it misses itself"}},
	{errNoToken, judgement{kind: keyservice.Unavailable, remedy: restart, hint: hintAway}},
	{errTokens, judgement{kind: keyservice.Invalid, hint: "name the token by its serial"}},
	{errPINFile, judgement{kind: keyservice.Denied, hint: "write the PIN to its file, with mode 0600, for the daemon's user"}},
	{errRefused, judgement{kind: keyservice.Denied, hint: hintPIN}},
	{errFinalTry, judgement{kind: keyservice.Denied, hint: hintTry}},
	{errNoKey, judgement{kind: keyservice.NotFound, remedy: restart, hint: hintGone}},
	{errKeys, judgement{kind: keyservice.Invalid, hint: "give each key a label of its own, or name one by its id"}},
	{errNoVersion, judgement{kind: keyservice.NotFound, hint: hintGone}},
	{errDisabled, judgement{kind: keyservice.Disabled, hint: hintAllowed}},
	{errSize, judgement{kind: keyservice.Invalid, hint: fmt.Sprintf("wrap 1 to %d bytes", keyservice.MaxSecretSize)}},
	{errIV, judgement{kind: keyservice.Invalid, hint: hintRefused}},
	{errAnswer, judgement{kind: keyservice.Corrupt, hint: hintModule}},
	{errOpen, judgement{kind: keyservice.Corrupt, hint: hintCorrupt}},
}

func judge(err error) judgement {
	for _, c := range causes {
		if errors.Is(err, c.cause) {
			return c.judgement
		}
	}
	code, _ := errors.AsType[p11.Error](err)
	if j, ok := codes[code]; ok {
		return j
	}
	return other
}
