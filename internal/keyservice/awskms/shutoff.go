package awskms

import "fmt"

// ShutOff returns the commands that disable this key.
func (c Config) ShutOff() string {
	region, key := c.target().region, c.KeyARN
	if c.alias() {
		key = fmt.Sprintf(`"$(aws kms describe-key --region %s --key-id %s --query KeyMetadata.Arn --output text)"`, region, c.KeyARN)
	}
	return fmt.Sprintf(`# It takes effect within seconds, as a rule. A multi-Region key is disabled in one Region at a time: repeat it for each replica.
aws kms disable-key --region %[1]s --key-id %[2]s
# Undo:
aws kms enable-key --region %[1]s --key-id %[2]s
`, region, key)
}
