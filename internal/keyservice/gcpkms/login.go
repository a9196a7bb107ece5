package gcpkms

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// scope limits access tokens to Cloud KMS, whatever else the account may do.
const scope = "https://www.googleapis.com/auth/cloudkms"

// machine is the kind of credential that a virtual machine has; the other kinds are named by files.
const machine = "compute_metadata"

// source returns the file with the credential, or nothing for the service account of the machine. What Google's library
// finds by itself is found here in the same order, because the library remembers for as long as the process lives that
// it did not reach the metadata server, and a daemon may start before the network does.
func (s *session) source() credential.File {
	if s.file != "" {
		return s.file
	}
	if path := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"); path != "" {
		return credential.File(path)
	}
	path := filepath.Join(os.Getenv("HOME"), ".config/gcloud/application_default_credentials.json")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return credential.File(path)
}

// state is what a credential is compared by, to notice that it was replaced.
type state struct {
	file    credential.File
	content credential.Fingerprint // 0 if the file cannot be read
}

func lookAt(file credential.File) state {
	seen := state{file: file}
	if file != "" {
		if content, err := file.Fingerprint(); err == nil {
			seen.content = content
		}
	}
	return seen
}

// logIn gets an access token with what the file holds now, and says what kind of credential that is.
func logIn(ctx context.Context, file credential.File) (token *auth.Token, kind string, err error) {
	const op = "logging in to Google Cloud"
	if file == "" {
		if token, err = machineToken(ctx); err != nil {
			return nil, machine, judgeMachine(op, err)
		}
		return token, machine, nil
	}
	secret, err := file.Read()
	if err != nil {
		return nil, "", credentialError(op, err)
	}
	defer secret.Wipe()
	var found struct {
		Type             string `json:"type"`
		CredentialSource struct {
			Certificate any `json:"certificate"` // with it the library makes a client of its own
		} `json:"credential_source"`
	}
	if err := json.Unmarshal(secret.Bytes(), &found); err != nil {
		return nil, "", credentialError(op, errors.New("the file is no JSON"))
	}
	var w web
	w.asked.Store(found.CredentialSource.Certificate != nil)
	creds, err := credentials.NewCredentialsFromJSON(credentials.CredType(found.Type), secret.Bytes(), &credentials.DetectOptions{
		Scopes: []string{scope}, Client: w.client(),
		Logger: slog.New(slog.DiscardHandler), // by default the library logs secrets if an environment variable says so
	})
	if err == nil {
		token, err = creds.Token(ctx)
	}
	if err != nil {
		return nil, found.Type, judgeLogin(op, err, w.asked.Load())
	}
	return token, found.Type, nil
}

// machineToken asks the metadata server of a virtual machine.
func machineToken(ctx context.Context) (*auth.Token, error) {
	client := metadata.NewWithOptions(&metadata.Options{Logger: slog.New(slog.DiscardHandler)})
	text, err := client.GetWithContext(ctx, "instance/service-accounts/default/token?scopes="+scope)
	if err != nil {
		return nil, err
	}
	var got struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.AccessToken == "" || got.ExpiresIn <= 0 {
		return nil, errors.New("the metadata server's answer holds no token")
	}
	return &auth.Token{Value: got.AccessToken, Expiry: time.Now().Add(time.Duration(got.ExpiresIn) * time.Second)}, nil
}

// web carries the requests of one log in. It follows no redirect, which could lead a credential elsewhere, keeps no
// connection, and turns each refusal into an error with a type: the library has only texts for most.
type web struct {
	asked atomic.Bool // whether a request was made
}

func (w *web) client() *http.Client {
	return &http.Client{
		Transport:     w,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip implements http.RoundTripper, except that an answer other than 2xx is an error.
func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked.Store(true)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	answer, err := transport.RoundTrip(r)
	if err != nil || answer.StatusCode/100 == 2 {
		return answer, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	return nil, parseRefusal(answer.StatusCode, body)
}

// parseRefusal reads the two forms in which Google's servers refuse: {"error": "invalid_grant", "error_description": "..."}
// and {"error": {"status": "PERMISSION_DENIED", "message": "..."}}. Of any other body nothing is kept.
func parseRefusal(status int, body []byte) *refusal {
	r := &refusal{status: status}
	var oauth struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	var api struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	switch {
	case json.Unmarshal(body, &oauth) == nil:
		r.code, r.text = oauth.Error, oauth.Description
	case json.Unmarshal(body, &api) == nil:
		r.code, r.text = api.Error.Status, api.Error.Message
	}
	return r
}
