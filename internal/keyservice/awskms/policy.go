package awskms

import (
	"encoding/json"
	"strings"
)

// statement is one statement of an IAM policy. The conditions are by operator, then by condition key.
type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// LeastPolicy returns the IAM policy, in JSON, that this key needs and no more. The pair of the encryption context is
// required, so that the credentials open nothing else that was encrypted with the key. An alias is no resource that a policy
// could name: there it is whatever keys of the account have the alias.
func (c Config) LeastPolicy() string {
	use := statement{
		Sid: "WrapAndUnwrap", Effect: "Allow", Action: []string{"kms:Encrypt", "kms:Decrypt"}, Resource: c.KeyARN,
		Condition: map[string]map[string]string{"StringLike": {"kms:EncryptionContext:" + contextName: "*"}},
	}
	look := statement{
		Sid: "SeeVersionsAndSettings", Effect: "Allow", Resource: c.KeyARN,
		Action: []string{"kms:DescribeKey", "kms:ListKeyRotations", "kms:GetKeyRotationStatus"},
	}
	if c.alias() {
		alias := c.target().resource
		aliased := map[string]string{"kms:ResourceAliases": alias}
		use.Resource = strings.TrimSuffix(c.KeyARN, alias) + "key/*"
		use.Condition["ForAnyValue:StringEquals"] = aliased
		look.Resource, look.Condition = use.Resource, map[string]map[string]string{"ForAnyValue:StringEquals": aliased}
	}
	policy, err := json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{use, look}}, "", "  ")
	if err != nil {
		return "" // strings always have a JSON form
	}
	return string(policy) + "\n"
}
