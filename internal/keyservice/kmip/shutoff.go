package kmip

import (
	"fmt"
	"strings"
)

// ShutOff returns what to do in the server: KMIP itself has no call that keeps a key from decrypting and can be undone.
func (c Config) ShutOff() string {
	return fmt.Sprintf(`# KMIP cannot disable a key: a revoked one may still decrypt. In the administration of %s, take the
# client certificate %s its access to %s. If its private key may have been copied, revoke the certificate in its
# authority as well. Undo: give the access to a new certificate.
`, strings.Join(c.Addresses, ", "), c.ClientCertFile, c.objects())
}

// objects names what the certificate has access to.
func (c Config) objects() string {
	if c.MAC != nil {
		return c.Key.String() + " and " + c.MAC.String()
	}
	return c.Key.String()
}
