package gcpkms

import (
	"fmt"
	"strings"
)

// needed are the permissions of LeastPolicy.
var needed = [...]string{
	"cloudkms.cryptoKeyVersions.useToEncrypt",
	"cloudkms.cryptoKeyVersions.useToDecrypt",
	"cloudkms.cryptoKeys.get",
	"cloudkms.cryptoKeyVersions.get",
	"cloudkms.cryptoKeyVersions.list",
}

// LeastPolicy returns the definition (YAML) of a custom role with the permissions that the account of this key needs and
// no more, and the commands that make it and grant it on this key alone.
func (c Config) LeastPolicy() string {
	parts := strings.Split(keyName.ReplaceAllString(c.Key, "$1/$2/$3/$4"), "/")
	if len(parts) != 4 {
		return ""
	}
	project, location, ring, key := parts[0], parts[1], parts[2], parts[3]
	return fmt.Sprintf(`# gcloud iam roles create trousseau --project=%[1]s --file=trousseau-role.yaml
# gcloud kms keys add-iam-policy-binding %[4]s --keyring=%[3]s --location=%[2]s --project=%[1]s \
#   --member=serviceAccount:ACCOUNT --role=projects/%[1]s/roles/trousseau
title: Trousseau
description: What the Trousseau KMS plugin needs on its key
stage: GA
includedPermissions:
# Wrap and unwrap.
- %[5]s
- %[6]s
# See which version is the primary one, and when versions were made.
- %[7]s
- %[8]s
# Let "trousseau check" report versions that are disabled or about to be destroyed.
- %[9]s
`, project, location, ring, key, needed[0], needed[1], needed[2], needed[3], needed[4])
}
