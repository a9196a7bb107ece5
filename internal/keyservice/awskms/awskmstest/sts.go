package awskmstest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// role is what STS hands out sessions for.
type role struct {
	externalID string        // empty: none is asked for
	webToken   string        // empty: not for web identities
	lives      time.Duration // of a session
}

// NewUser makes a user of an account, who may do everything, and returns the user's access key.
func (f *Fake) NewUser(account string) (id, secret string) {
	id, secret = "AKIA"+rand.Text()[:16], rand.Text()+rand.Text()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.identities[id] = &identity{account: account, secret: secret}
	return id, secret
}

// NewRole makes a role whose sessions live as long as given, and returns its ARN. An external id that is not empty is asked for
// by AssumeRole, and a web token that is not empty is taken by AssumeRoleWithWebIdentity.
func (f *Fake) NewRole(name, externalID, webToken string, lives time.Duration) string {
	arn := "arn:aws:iam::" + Account + ":role/" + name
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[arn] = &role{externalID: externalID, webToken: webToken, lives: lives}
	return arn
}

// Forget makes all access keys and sessions unknown.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.identities)
}

// session is the credentials of a role as STS, instances and containers hand them out.
type session struct {
	AccessKeyID     string `json:"AccessKeyId" xml:"AccessKeyId"`
	SecretAccessKey string
	Token           string `xml:"SessionToken"`
	Expiration      string
	Code            string `xml:"-"`
}

// NewSession makes a session that lives as long as given, without a role.
func (f *Fake) NewSession(lives time.Duration) (id, secret, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.newSession(lives)
	return s.AccessKeyID, s.SecretAccessKey, s.Token
}

// newSession is called by who holds mu.
func (f *Fake) newSession(lives time.Duration) session {
	ends := f.now().Add(lives)
	s := session{
		AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + rand.Text(), Token: rand.Text() + rand.Text(),
		Expiration: ends.UTC().Format(time.RFC3339), Code: "Success",
	}
	f.identities[s.AccessKeyID] = &identity{account: Account, secret: s.SecretAccessKey, token: s.Token, expires: ends}
	return s
}

// serveSTS is called by who holds mu.
func (f *Fake) serveSTS(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Type", "text/xml")
	form, err := url.ParseQuery(string(body))
	op := form.Get("Action")
	f.calls[op]++
	failure := f.ordered(op, false)
	if err != nil || form.Get("Version") != "2011-06-15" {
		failure = refuse("InvalidAction", "")
	}
	if failure == nil {
		failure = f.admit(r, body, op, form)
	}
	if failure != nil {
		w.WriteHeader(failure.Status)
		fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>", failure.Code)
		_ = xml.EscapeText(w, []byte(failure.Message)) // fails if the client has gone
		fmt.Fprint(w, "</Message></Error><RequestId>1</RequestId></ErrorResponse>")
		return
	}
	text, _ := xml.Marshal(f.newSession(f.roles[form.Get("RoleArn")].lives)) // strings always have an XML form
	credentials := strings.NewReplacer("<session>", "<Credentials>", "</session>", "</Credentials>").Replace(string(text))
	fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", op, credentials)
}

// admit decides whether a session is handed out.
func (f *Fake) admit(r *http.Request, body []byte, op string, form url.Values) *Failure {
	denied := &Failure{Status: 403, Code: "AccessDenied", Message: "Not authorized to perform sts:" + op}
	wanted := f.roles[form.Get("RoleArn")]
	if wanted == nil || form.Get("RoleSessionName") == "" {
		return denied
	}
	switch op {
	case "AssumeRole":
		if _, _, failure := f.verify(r, body, "sts"); failure != nil {
			return failure
		}
		if wanted.webToken != "" || form.Get("ExternalId") != wanted.externalID {
			return denied
		}
	case "AssumeRoleWithWebIdentity":
		if wanted.webToken == "" || subtle.ConstantTimeCompare([]byte(form.Get("WebIdentityToken")), []byte(wanted.webToken)) != 1 {
			return refuse("InvalidIdentityToken", "Couldn't verify the token")
		}
	default:
		return refuse("InvalidAction", "")
	}
	return nil
}

// SetWebToken changes the web identity token that a role trusts.
func (f *Fake) SetWebToken(arn, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[arn].webToken = token
}

// metadataToken is what instance metadata (version 2) wants to be asked with.
const metadataToken = "metadata-token"

func (f *Fake) serveMetadataToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
	fmt.Fprint(w, metadataToken)
}

func (f *Fake) serveMetadata(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != metadataToken:
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasSuffix(r.URL.Path, "/"):
		fmt.Fprint(w, "node-role")
	default:
		f.writeSession(w)
	}
}

// ContainerToken is what the container's credentials want to be asked with.
const ContainerToken = "container-token"

func (f *Fake) serveContainer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != ContainerToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.writeSession(w)
}

func (f *Fake) writeSession(w http.ResponseWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(f.newSession(time.Hour)) // fails if the client has gone
}
