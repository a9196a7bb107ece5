package awskms_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = "keyARN: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n"

func TestConfigDecodes(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"minimal": minimal,
		"full": minimal + `
endpoint: https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com
credentialsFile: /etc/trousseau/aws-credentials
profile: trousseau
assumeRole: {roleARN: "arn:aws:iam::111122223333:role/path/trousseau", externalID: "prod-eu-1"}
`,
		"fips":     minimal + "fips: true\n",
		"loopback": minimal + "endpoint: http://127.0.0.1:4566/\n",
		"alias":    "keyARN: arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/prod/k8s\n",
	} {
		var c awskms.Config
		if err := strictyaml.Decode("test.yaml", []byte(document), &c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ document, field, text string }{
		{"fips: true\n", "keyARN", "missing"},
		{"keyARN: mrk-1234abcd12ab34cd56ef1234567890ab\n", "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:s3:eu-central-1:111122223333:key/a\n", "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:kms::111122223333:key/a\n", "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:kms:eu-central-1:1111:key/a\n", "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:kms:eu-central-1:111122223333:key/a/b\n", "keyARN", "no ARN of a KMS key"},
		{`keyARN: "arn:aws:kms:eu-central-1:111122223333:key/a\n"`, "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:kms:evil.example.com/x-1:111122223333:key/a\n", "keyARN", "no ARN of a KMS key"},
		{"keyARN: arn:aws:kms:eu-central-1:111122223333:alias/aws/ebs\n", "keyARN", "AWS manages"},
		{minimal + "endpoint: http://kms.example.com\n", "endpoint", "in clear"},
		{minimal + "endpoint: ftp://kms.example.com\n", "endpoint", "another scheme"},
		{minimal + "endpoint: kms.example.com\n", "endpoint", "no URL"},
		{minimal + "endpoint: https://u:p@kms.example.com\n", "endpoint", "more than a host"},
		{minimal + "endpoint: https://kms.example.com/path\n", "endpoint", "more than a host"},
		{minimal + "endpoint: https://kms.example.com\nfips: true\n", "fips", "remove fips"},
		{minimal + "credentialsFile: aws-credentials\n", "credentialsFile", "not absolute"},
		{minimal + "assumeRole: {}\n", "assumeRole.roleARN", "missing"},
		{minimal + "assumeRole: {roleARN: trousseau}\n", "assumeRole.roleARN", "arn:aws:iam"},
		{minimal + "assumeRole: {roleARN: 'arn:aws:iam::111122223333:role/r', externalID: 'a b'}\n", "assumeRole.externalID", "letters"},
		{minimal + "secretAccessKey: abc\n", "secretAccessKey", "unknown"},
	} {
		var config awskms.Config
		err := strictyaml.Decode("test.yaml", []byte(c.document), &config)
		keyservicetest.CheckProblem(t, c.document, err, c.field, c.text)
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, c := range []awskms.Config{
		{},
		{KeyARN: "alias/k8s"},
		{KeyARN: "arn:aws:kms:eu-central-1:111122223333:key/a", Endpoint: "http://192.0.2.1"},
	} {
		_, err := awskms.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		keyservicetest.WantKind(t, err, keyservice.Invalid, "opening awskms:")
	}
}

// TestExample: the part of the deployment example that is about this key service decodes.
func TestExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("../../../deploy/examples/awskms.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(example), "  awskms:\n")
	section, _, _ = strings.Cut(section, "\npolicies:")
	var c awskms.Config
	if err := strictyaml.Decode("awskms.yaml", []byte(section), &c); err != nil {
		t.Fatal(err)
	}
	if _, err := awskms.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}
