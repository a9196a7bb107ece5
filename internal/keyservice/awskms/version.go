package awskms

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// versionSize is how many bytes of a hash a version's id shows, as base64: every byte of it is copied into every object in
// etcd, and one key has a handful of versions.
const versionSize = 12

// versionOf returns the id of the version with the given key material: the first bytes of
//
//	SHA-256(key id || 0 || key material id)
//
// with the key's id as its ARN ends (UUID or mrk-...), which is one for all Regions of a multi-Region key.
func versionOf(op, arn string, material *string) (keyservice.VersionID, error) {
	if aws.ToString(material) == "" {
		return "", &keyservice.Error{
			Kind: keyservice.Invalid, Op: op, Err: errors.New("KMS does not name the key material of this key"),
			Hint: "use a symmetric key with origin AWS_KMS or EXTERNAL: keys in custom key stores have no versions",
		}
	}
	sum := sha256.Sum256([]byte(arn[strings.LastIndexByte(arn, '/')+1:] + "\x00" + *material))
	return keyservice.VersionID(base64.RawURLEncoding.EncodeToString(sum[:versionSize])), nil
}

// validVersion reports whether versionOf could have returned the id.
func validVersion(id keyservice.VersionID) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(string(id))
	return err == nil && len(sum) == versionSize
}

// key returns the ARN of the key, and follows an alias if nobody has done so yet.
func (k *Key) key(ctx context.Context, op string) (string, error) {
	if arn := k.followed(); arn != "" {
		return arn, nil
	}
	about, err := k.describe(ctx, op, k.config.KeyARN)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pinned == "" { // else another call was faster, and all use the same key
		k.pinned = aws.ToString(about.Arn)
		k.log.Info("followed the alias", "arn", k.pinned)
	}
	return k.pinned, nil
}

func (k *Key) followed() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pinned
}

// describe asks what KMS knows of a key, and refuses one that cannot be used for its kind. Its state may be any.
func (k *Key) describe(ctx context.Context, op, arn string) (*types.KeyMetadata, error) {
	got, err := call(ctx, k, op, func(ctx context.Context) (*kms.DescribeKeyOutput, error) {
		return k.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn})
	})
	if err != nil {
		return nil, err
	}
	about := got.KeyMetadata
	if about == nil || !keyARN.MatchString(aws.ToString(about.Arn)) {
		return nil, damagedAnswer(op, errors.New("it describes no key"))
	}
	if about.KeySpec != types.KeySpecSymmetricDefault || about.KeyUsage != types.KeyUsageTypeEncryptDecrypt {
		return nil, &keyservice.Error{
			Kind: keyservice.Invalid, Op: op,
			Err:  errors.New("the key is no symmetric encryption key"),
			Hint: "make one: aws kms create-key (with its defaults), and configure its ARN",
		}
	}
	return about, nil
}

// Versions implements keyservice.Key. DescribeKey decides what the newest version is; when that was made, and what came
// before, is known only where the credentials may list rotations, which AWS does not allow from another account.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	op := "listing versions of " + k.config.ID()
	arn, err := k.key(ctx, op)
	if err != nil {
		return newest, previous, err
	}
	about, err := k.describe(ctx, op, arn)
	if err != nil {
		return newest, previous, err
	}
	failure := unusable(op, about)
	newest.ID, err = versionOf(op, arn, about.CurrentKeyMaterialId)
	switch {
	case failure != nil && (err != nil || failure.Kind.Outage()):
		return newest, previous, failure
	case err != nil:
		return newest, previous, err
	case failure != nil:
		newest.State = keyservice.StateDisabled
		return newest, previous, nil
	}
	materials, err := k.materials(ctx, op, arn, about)
	if err != nil && keyservice.KindOf(err).Outage() {
		return newest, previous, err
	}
	for i, m := range materials { // none, where they cannot be listed
		if m.id == *about.CurrentKeyMaterialId {
			newest.Created = m.since
			materials = materials[:i]
			break
		}
	}
	if n := len(materials); n > 0 {
		previous = keyservice.Version{Created: materials[n-1].since, State: keyservice.StateOpenOnly}
		if previous.ID, err = versionOf(op, arn, &materials[n-1].id); err != nil {
			return newest, previous, err
		}
	}
	return newest, previous, nil
}

// material is one generation of a key's material.
type material struct {
	id    string
	since time.Time
}

// materials returns what the key has been rotated to, oldest first. The first material is as old as the key. All fit into one
// answer: KMS rotates by itself every 90 days at most, and 25 times on demand.
func (k *Key) materials(ctx context.Context, op, arn string, about *types.KeyMetadata) ([]material, error) {
	got, err := call(ctx, k, op, func(ctx context.Context) (*kms.ListKeyRotationsOutput, error) {
		return k.kms.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{
			KeyId: &arn, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial, Limit: aws.Int32(1000),
		})
	})
	if err != nil {
		return nil, err
	}
	var all []material
	for _, r := range got.Rotations {
		if r.KeyMaterialState == types.KeyMaterialStateCurrent || r.KeyMaterialState == types.KeyMaterialStateNonCurrent {
			all = append(all, material{aws.ToString(r.KeyMaterialId), aws.ToTime(r.RotationDate)})
		} // others are imported and not in use yet
	}
	slices.SortFunc(all, func(a, b material) int { return a.since.Compare(b.since) })
	if len(all) > 0 && all[0].since.IsZero() {
		all[0].since = aws.ToTime(about.CreationDate) // after the sort: a replica may be younger than a rotation
	}
	return all, nil
}
