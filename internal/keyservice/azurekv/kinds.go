package azurekv

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	hintCorrupt  = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup"
	hintDenied   = "assign the role of `trousseau check --print-policy` to the identity, on the key; it takes effect within minutes"
	hintFirewall = "let this host's address through the firewall of the vault, or see that its name leads to the private endpoint"
	hintNoKey    = "see that vault and key are right; a deleted key comes back with `az keyvault key recover`, until it is purged"
	hintNoVault  = "see that the vault exists; a deleted one comes back with `az keyvault recover`, until it is purged"
	hintDisabled = "enable the version (`az keyvault key set-attributes --enabled true`), or see its nbf and exp; a newer one wraps instead"
	hintOps      = "allow wrapKey and unwrapKey: `az keyvault key set-attributes --ops wrapKey unwrapKey`"
	hintKeyType  = "set algorithm to what the type of the key can do: RSA-OAEP-256 for RSA, A256KW for oct-HSM of 256 bits"
	hintThrottle = "see who else uses the vault: its limits are shared by all; give the cluster a vault of its own"
	hintAzure    = "see the health of Azure (https://azure.status.microsoft) and try again"
	hintAway     = "see that this host reaches the vault and Entra ID: names, routes, firewall, proxy"
	hintSlow     = "the service did not answer in time: look at the network between, and at the proxy"
	hintTLS      = "check caFile, this host's clock, and what opens TLS in between"
	hintOther    = "something else than the vault answered: look at proxies, vaultURL and where the name leads"
	hintToken    = "see this host's clock; if it is right, use an application of the vault's directory"

	hintCredential = "put a credential that works into the files, readable by this process alone"
	hintExpired    = "make a new secret or certificate (`az ad app credential reset --append`) and put it into the file"
	hintAssertion  = "see that the token in the file is fresh, and that the application's federated credential names its issuer, " +
		"subject and audience"
	hintIdentity = "assign the identity to the machine, and write the client id of one that is assigned"
)

// rule gives an answer its kind. The first rule that fits counts.
type rule struct {
	status int    // 0 fits every status, 3 and 5 fit the hundreds
	code   string // of the error or of the error within; empty fits every code
	text   string // in the text, in small letters; empty fits every text
	kind   keyservice.Kind
	hint   string
}

// rules are for answers of the vault, as they are documented (learn.microsoft.com/azure/key-vault/general/rest-error-codes) and
// as users have reported them. That a key is used out of its time or for a forbidden operation is documented as 403 alone:
// the codes and texts for it here are what they should be called.
var rules = []rule{
	{403, "KeyDisabled", "", keyservice.Disabled, hintDisabled},
	{403, "KeyExpired", "", keyservice.Disabled, hintDisabled},
	{403, "KeyNotYetValid", "", keyservice.Disabled, hintDisabled},
	{403, "", "disabled key", keyservice.Disabled, hintDisabled},
	{403, "", "key is expired", keyservice.Disabled, hintDisabled},
	{403, "", "not yet valid", keyservice.Disabled, hintDisabled},
	{403, "KeyOperationForbidden", "", keyservice.Disabled, hintOps},
	{403, "", "not permitted on this key", keyservice.Disabled, hintOps},
	{403, "ForbiddenByFirewall", "", keyservice.Unavailable, hintFirewall}, // the way through the network decides, not a right
	{403, "ForbiddenByConnection", "", keyservice.Unavailable, hintFirewall},
	{403, "", "client address is not authorized", keyservice.Unavailable, hintFirewall},
	{403, "", "public network access is disabled", keyservice.Unavailable, hintFirewall},
	{403, "", "", keyservice.Denied, hintDenied}, // Forbidden: ForbiddenByRbac, ForbiddenByPolicy, AccessDenied
	{401, "", "", keyservice.Denied, hintToken},
	{404, "VaultNotFound", "", keyservice.NotFound, hintNoVault},
	{404, "", "", keyservice.NotFound, hintNoKey}, // KeyNotFound
	{409, "", "", keyservice.Disabled, hintNoKey}, // ObjectIsDeletedButRecoverable, ObjectIsBeingDeleted, ...
	{429, "", "", keyservice.Throttled, hintThrottle},
	{408, "", "", keyservice.Unavailable, hintAzure},
	{3, "", "", keyservice.Unavailable, hintOther},
	{5, "", "", keyservice.Unavailable, hintAzure},
	{400, "", "algorithm", keyservice.Invalid, hintKeyType},
	{0, "", "", keyservice.Invalid, hintKeyType},
}

// unwrapRules come before rules where something is unwrapped.
var unwrapRules = []rule{
	{400, "", "algorithm", keyservice.Invalid, hintKeyType},
	{400, "", "", keyservice.Corrupt, hintCorrupt}, // BadParameter
}

// loginRules are for answers of Entra ID, whose texts begin with numbers of its own, and of a machine's endpoint for
// its identity.
var loginRules = []rule{
	{0, "temporarily_unavailable", "", keyservice.Unavailable, hintAzure},
	{0, "", "aadsts7000222", keyservice.Denied, hintExpired},
	{0, "", "aadsts7000215", keyservice.Denied, hintCredential},
	{0, "", "aadsts700027", keyservice.Denied, hintCredential},
	{0, "", "aadsts70021", keyservice.Denied, hintAssertion}, // 700211, 700212, 700213 too
	{0, "", "aadsts700024", keyservice.Denied, hintAssertion},
	{0, "", "aadsts700016", keyservice.Denied, "see that clientID is that of an application in this directory"},
	{0, "", "aadsts90002", keyservice.Denied, "see that tenantID is right, and the cloud"},
	{0, "", "identity not found", keyservice.Denied, hintIdentity},
	{0, "", "managed identity found for", keyservice.Denied, hintIdentity}, // "no ... found for ..."
	{429, "", "", keyservice.Throttled, hintAzure},
	{400, "", "", keyservice.Denied, hintCredential},
	{401, "", "", keyservice.Denied, hintCredential},
	{403, "", "", keyservice.Denied, hintCredential},
	{0, "", "", keyservice.Unavailable, hintAzure}, // 404 and 410 too: a machine's endpoint is being updated
}

// refusal is what an answer says.
type refusal struct {
	status      int
	code, inner string
	text        string
}

// judge returns the error for a refusal by the first rule that fits.
func (r refusal) judge(op string, rules []rule) *keyservice.Error {
	lower := strings.ToLower(r.text)
	for _, rule := range rules {
		if (rule.status == 0 || rule.status == r.status || rule.status == r.status/100) &&
			(rule.code == "" || rule.code == r.code || rule.code == r.inner) && strings.Contains(lower, rule.text) {
			return &keyservice.Error{Kind: rule.kind, Op: op, Hint: rule.hint, Err: r.err()}
		}
	}
	panic("azurekv: the last rule fits everything")
}

// maxQuote is how many bytes of a service's text an error shows.
const maxQuote = 300

func (r refusal) err() error {
	said := fmt.Sprintf("the service says %d %s", r.status, http.StatusText(r.status))
	for _, code := range []string{r.code, r.inner} {
		if code != "" {
			said += fmt.Sprintf(" %.40q", code)
		}
	}
	text := strings.Join(strings.Fields(r.text), " ")
	if len(text) > maxQuote {
		text = text[:maxQuote] + "..."
	}
	if text == "" {
		return errors.New(said)
	}
	return fmt.Errorf("%s: %q", said, text)
}
