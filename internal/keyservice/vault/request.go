package vault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// request is one call of Vault's HTTP API, which any server may be sent.
type request struct {
	method  string
	path    string // below /v1/, checked when the configuration was
	params  url.Values
	body    any    // encoded as JSON, or nil
	encoded []byte // instead of body: JSON that holds a secret
	login   bool   // a log in: the server's words mean something else then
	token   string
	secrets []string // what the server might echo, beside the token
	secret  []byte   // the same, sent as base64
}

// with returns r with a token.
func (r request) with(t *token) request {
	r.token = t.header()
	return r
}

func (r request) build(node *api.Client) (*api.Request, error) {
	sent := node.NewRequest(r.method, "/v1/"+r.path)
	sent.ClientToken = r.token
	if r.params != nil {
		sent.Params = r.params
	}
	if r.encoded != nil {
		sent.BodyBytes = r.encoded
		return sent, nil
	}
	if r.body == nil {
		return sent, nil
	}
	if err := sent.SetJSONBody(r.body); err != nil {
		return nil, errors.New("encoding the request")
	}
	return sent, nil
}

// scrub removes from a server's words what it was sent.
func (r request) scrub(errs []string) []string {
	clean := make([]string, len(errs))
	secrets := append([]string{r.token, base64.StdEncoding.EncodeToString(r.secret)}, r.secrets...)
	for i, text := range errs {
		for _, secret := range secrets {
			if secret != "" {
				text = strings.ReplaceAll(text, secret, "redacted")
			}
		}
		clean[i] = text
	}
	return clean
}

// answer is a server's 2xx.
type answer struct {
	status int
	body   []byte
	date   string // of the header
}

// decode decodes the data of the answer and wipes the answer, which may hold a secret. A nil data only wipes.
func (a answer) decode(op string, data any) error {
	defer clear(a.body)
	if data == nil {
		return nil
	}
	envelope := struct {
		Data any `json:"data"`
	}{data}
	if a.status != http.StatusOK {
		return damagedAnswer(op, errors.New("it has no content"))
	}
	var err error
	secretmem.Do(func() { err = json.Unmarshal(a.body, &envelope) })
	if err != nil {
		// The decoder's own words may quote the answer.
		return damagedAnswer(op, errors.New("it is not the JSON that was expected"))
	}
	return nil
}

// login is the part of an answer that holds a new token.
type login struct {
	Auth *struct {
		ClientToken   string   `json:"client_token"`
		LeaseDuration int      `json:"lease_duration"` // seconds; 0 is for ever
		Renewable     bool     `json:"renewable"`
		Policies      []string `json:"policies"`
	} `json:"auth"`
}

func (a answer) decodeLogin(op string) (login, error) {
	defer clear(a.body)
	var got login
	if err := json.Unmarshal(a.body, &got); err != nil {
		return login{}, damagedAnswer(op, errors.New("it is not the JSON that was expected"))
	}
	if got.Auth == nil || got.Auth.ClientToken == "" {
		return login{}, damagedAnswer(op, errors.New("it has no token (multi-factor authentication is not supported)"))
	}
	return got, nil
}
