// Package deps is temporary.
package deps

import (
	_ "cloud.google.com/go/auth/credentials"
	_ "cloud.google.com/go/kms/apiv1"
	_ "cloud.google.com/go/kms/apiv1/kmspb"
	_ "filippo.io/age"
	_ "filippo.io/age/agessh"
	_ "filippo.io/age/plugin"
	_ "github.com/Azure/azure-sdk-for-go/sdk/azcore"
	_ "github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	_ "github.com/aws/aws-sdk-go-v2/aws"
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	_ "github.com/aws/aws-sdk-go-v2/service/kms"
	_ "github.com/aws/aws-sdk-go-v2/service/sts"
	_ "github.com/aws/smithy-go"
	_ "github.com/google/go-tpm/tpm2"
	_ "github.com/googleapis/gax-go/v2"
	_ "github.com/miekg/pkcs11"
	_ "github.com/ovh/kmip-go"
	_ "github.com/ovh/kmip-go/kmipclient"
	_ "github.com/ovh/kmip-go/kmipserver"
	_ "google.golang.org/api/impersonate"
	_ "google.golang.org/api/option"
)
