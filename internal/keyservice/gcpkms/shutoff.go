package gcpkms

import (
	"fmt"
	"strings"
)

// ShutOff returns the commands that take this key from the daemon's account, and those that disable all its versions.
func (c Config) ShutOff() string {
	parts := strings.Split(keyName.ReplaceAllString(c.Key, "$1/$2/$3/$4"), "/")
	if len(parts) != 4 {
		return ""
	}
	at := fmt.Sprintf("--keyring=%s --location=%s --project=%s", parts[2], parts[1], parts[0])
	return fmt.Sprintf(`# Take the key from the daemon's account; ACCOUNT and ROLE as they were granted. Other users of the key go on.
gcloud kms keys remove-iam-policy-binding %[2]s %[1]s --member=serviceAccount:ACCOUNT --role=ROLE
# Disable all its versions, for everybody. It can take a minute, and in exceptional cases hours, to take effect.
for version in $(gcloud kms keys versions list --key=%[2]s %[1]s --filter=state=ENABLED --format='value(name.basename())'); do
  gcloud kms keys versions disable "$version" --key=%[2]s %[1]s
done
# Undo: add-iam-policy-binding, and versions enable for each of them.
`, at, parts[3])
}
