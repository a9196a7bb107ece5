package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Inspect looks at the socket and at what the plugin says of itself, and has it wrap and unwrap 32 bytes. One call is meant to
// fail: the plugin's log shows an error for it.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	const op = "inspecting upstream plugin"
	if _, err := k.connection(); err != nil {
		return nil, fail(ctx, op, err)
	}
	found := k.lookAtSocket()
	status, err := k.status(ctx)
	if err != nil {
		return append(found, k.failed("upstream-status-fails", fail(ctx, op, err))), nil
	}
	found = append(found, k.lookAtStatus(status)...)
	return append(found, k.tryOut(ctx, status.KeyId)...), nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.Socket, What: what, Fix: fix}
}

func (k *Key) failed(rule string, err error) finding.Finding {
	return k.finding(rule, finding.Error, err.Error(), keyservice.HintOf(err))
}

// lookAtSocket finds who may have anything opened by the plugin, or may take its place. In a directory with the sticky bit only
// owners replace files.
func (k *Key) lookAtSocket() (found []finding.Finding) {
	const anybody = 0o002
	if info, err := os.Stat(k.config.Socket); err == nil && info.Mode().Perm()&anybody != 0 {
		found = append(found, k.finding("upstream-socket-open", finding.Warning,
			fmt.Sprintf("every process on this host may have the plugin decrypt: the socket has mode %#o", info.Mode().Perm()),
			"have the plugin make its socket with mode 0660 or less, or keep it in a directory that only its users may enter"))
	}
	dir := filepath.Dir(k.config.Socket)
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&anybody != 0 && info.Mode()&fs.ModeSticky == 0 {
		found = append(found, k.finding("upstream-directory-writable", finding.Warning,
			fmt.Sprintf("anybody may put another socket in the place of the plugin's: %s has mode %#o", dir, info.Mode().Perm()),
			"chmod o-w "+dir))
	}
	return found
}

var (
	// constant are key ids that stay when the material behind them is replaced.
	constant = regexp.MustCompile(`^(arn:|[0-9]{1,6}$)`)
	// trousseau are the key ids that Trousseau announces: see docs/formats.md.
	trousseau = regexp.MustCompile(`^t1\.[A-Za-z0-9_-]{27}$`)
)

func (k *Key) lookAtStatus(status *kmsv2.StatusResponse) []finding.Finding {
	found := []finding.Finding{k.finding("upstream-status", finding.Info,
		fmt.Sprintf("the plugin speaks %s and announces the key id %.80q", status.Version, status.KeyId), "")}
	if constant.MatchString(status.KeyId) {
		found = append(found, k.finding("upstream-key-id-constant", finding.Info,
			"the key id names a key or a number and not the key's material: a rotation, or a key that was made again, may not show",
			"after each rotation of the plugin's key raise policies[].generation, so that a rewrite of everything shows"))
	}
	if trousseau.MatchString(status.KeyId) {
		found = append(found, k.finding("upstream-is-trousseau", finding.Info,
			"the plugin is a Trousseau: if it is the daemon that uses this key, that daemon waits for itself",
			"name the socket of another plugin, unless this is another Trousseau"))
	}
	return found
}

// tryOut has the plugin wrap and unwrap, and unwrap something that was changed.
func (k *Key) tryOut(ctx context.Context, announced string) (found []finding.Finding) {
	const op = "trying out upstream plugin"
	secret := bytes.Repeat([]byte("try "), 8) // as many bytes as an API server sends
	a, err := k.encrypt(ctx, secret)
	if err == nil {
		if err = a.check(); err != nil {
			err = fmt.Errorf("%w: %w", errAnswer, err)
		}
	}
	if err != nil {
		return []finding.Finding{k.failed("upstream-wrap-fails", fail(ctx, op, err))}
	}
	if a.keyID != announced {
		found = append(found, k.finding("upstream-key-id-differs", finding.Warning,
			fmt.Sprintf("the plugin announces the key id %.80q and encrypts under %.80q", announced, a.keyID),
			"unless its key was rotated just now, update the plugin: kube-apiserver refuses such answers"))
	}
	got, err := k.decrypt(ctx, a)
	if err == nil && !bytes.Equal(got, secret) {
		err = fmt.Errorf("%w: it decrypts to something else", errAnswer)
	}
	if err != nil {
		return append(found, k.failed("upstream-unwrap-fails", fail(ctx, op, err)))
	}
	a.ciphertext = bytes.Clone(a.ciphertext)
	a.ciphertext[len(a.ciphertext)-1] ^= 1
	if _, err := k.decrypt(ctx, a); err == nil {
		found = append(found, k.finding("upstream-unauthenticated", finding.Warning,
			"the plugin decrypts a ciphertext that was changed: what it encrypts is not authenticated",
			"use a plugin that encrypts with an authenticated algorithm such as AES-GCM, or this one only beside a key that does"))
	}
	return found
}
