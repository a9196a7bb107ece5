package awskmstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// identity is who signs: a user for ever, or a session until expires.
type identity struct {
	account, secret, token string
	expires                time.Time
}

// maxAge is how far the time of a signature may be from that of the service.
const maxAge = 5 * time.Minute

var authorization = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// verify checks a request's signature (Signature Version 4) for a service and returns who signed it, for which Region. It is
// called by who holds mu.
func (f *Fake) verify(r *http.Request, body []byte, service string) (*identity, string, *Failure) {
	m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return nil, "", &Failure{Status: 400, Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	}
	who, region := f.identities[m[1]], m[3]
	switch {
	case who == nil || r.Header.Get("X-Amz-Security-Token") != who.token:
		code := "UnrecognizedClientException"
		if service == "sts" {
			code = "InvalidClientTokenId"
		}
		return nil, "", &Failure{Status: 403, Code: code, Message: "The security token included in the request is invalid."}
	case !who.expires.IsZero() && f.now().After(who.expires):
		return nil, "", &Failure{Status: 400, Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
	}
	signed := strings.Split(m[5], ";")
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	switch {
	case err != nil || !strings.HasPrefix(date, m[2]) || m[4] != service || !covers(r, signed):
		return nil, "", &Failure{Status: 400, Code: "IncompleteSignature", Message: "The signature does not cover what it must."}
	case f.now().Sub(at) > maxAge:
		return nil, "", &Failure{Status: 400, Code: "InvalidSignatureException", Message: fmt.Sprintf("Signature expired: %s is now earlier than ...", date)}
	case at.Sub(f.now()) > maxAge:
		return nil, "", &Failure{Status: 400, Code: "InvalidSignatureException", Message: fmt.Sprintf("Signature not yet current: %s is still later than ...", date)}
	}
	scope := strings.Join([]string{m[2], region, service, "aws4_request"}, "/")
	canonical := sha256.Sum256([]byte(canonicalRequest(r, signed, body)))
	toSign := "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + hex.EncodeToString(canonical[:])
	secret := []byte("AWS4" + who.secret)
	for part := range strings.SplitSeq(scope, "/") {
		secret = mac(secret, part)
	}
	if given, err := hex.DecodeString(m[6]); err != nil || !hmac.Equal(given, mac(secret, toSign)) {
		return nil, "", &Failure{Status: 400, Code: "InvalidSignatureException", Message: "The request signature we calculated does not match the signature you provided.\n\n" +
			"The Canonical String for this request should have been\n'" + canonicalRequest(r, signed, body) + "'"}
	}
	return who, region, nil
}

// covers reports whether all headers that matter are signed, in order.
func covers(r *http.Request, signed []string) bool {
	needed := []string{"host", "x-amz-date"}
	for _, header := range []string{"X-Amz-Target", "X-Amz-Security-Token"} {
		if r.Header.Get(header) != "" {
			needed = append(needed, strings.ToLower(header))
		}
	}
	for _, header := range needed {
		if !slices.Contains(signed, header) {
			return false
		}
	}
	return slices.IsSorted(signed)
}

func canonicalRequest(r *http.Request, signed []string, body []byte) string {
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name { // these two are not among the headers that net/http shows
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	sum := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.Query().Encode(), headers.String(), strings.Join(signed, ";"), hex.EncodeToString(sum[:]),
	}, "\n")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
