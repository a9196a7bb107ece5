package configdoc

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
)

const services = `<!-- Generated from what each key service says of itself by "go generate ./internal/configdoc". -->

# Key services

| key service | authentication | algorithms | version ids from | associated data | bytes stored | tested against |
|---|---|---|---|---|---|---|
`

const servicesEnd = `
**Bytes stored** are the ciphertext, its annotation and the key id that etcd holds beside each object, for a policy of 1 of 1
and the key's first version. The conformance suite measures them on every key service in this table, and runs against what
the last column names.
`

// writeServices returns the table of all key services.
func writeServices() ([]byte, error) {
	var page bytes.Buffer
	page.WriteString(services)
	for _, d := range all.Descriptions() {
		var algorithms, aad, stored []string
		for _, form := range d.Forms {
			n, err := storedBytes(form)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Name, err)
			}
			algorithms = append(algorithms, form.Algorithm)
			aad = append(aad, map[bool]string{true: "yes", false: "no"}[form.AAD])
			stored = append(stored, fmt.Sprint(n))
		}
		fmt.Fprintf(&page, "| [`%s`](%[1]s.md): %s | %s | %s | %s | %s | %s | %s |\n", d.Name, d.Service, d.Authentication,
			strings.Join(algorithms, "<br>"), d.Versions, strings.Join(aad, "<br>"), strings.Join(stored, "<br>"), d.Tested)
	}
	page.WriteString(servicesEnd)
	return page.Bytes(), nil
}

// storedBytes returns how many bytes a seed wrapped with a policy of 1 of 1 takes beside each object.
func storedBytes(form keyservice.Form) (int, error) {
	const (
		kmsLimit = 1024 // of a ciphertext in KMS v2
		seed     = 32
		tag      = 16
		keyID    = 30
	)
	e := envelope.Envelope{Need: 1, Keys: 1, Seal: make([]byte, seed+tag), Shares: []envelope.Share{{
		Version: keyservice.VersionID(strings.Repeat("v", form.Version)), Wrapped: make([]byte, form.Wrapped),
	}}}
	ciphertext, spilled, err := e.Marshal(kmsLimit)
	if err != nil {
		return 0, err
	}
	n := len(ciphertext) + keyID
	if spilled != nil {
		n += len(envelope.SharesAnnotation) + len(spilled)
	}
	return n, nil
}
