package kmip

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// maxObjects is how many versions a key may have.
const maxObjects = 256

// object is what a server tells of one managed object. It holds no material.
type object struct {
	uid            string
	objectType     kmip.ObjectType
	state          kmip.State
	algorithm      kmip.CryptographicAlgorithm
	length         int32 // bits
	usage          kmip.CryptographicUsageMask
	initialDate    time.Time
	activationDate time.Time // zero where the server does not tell, like all that follow
	protectStop    time.Time
	deactivation   time.Time
	sensitive      *bool
	extractable    *bool
	replaces       string // the object that this one replaced
	replacedBy     string
}

// attributeNames are what read asks for. The last two exist since KMIP 1.4; servers leave out what they do not know.
var attributeNames = []kmip.AttributeName{
	kmip.AttributeNameObjectType, kmip.AttributeNameState, kmip.AttributeNameCryptographicAlgorithm,
	kmip.AttributeNameCryptographicLength, kmip.AttributeNameCryptographicUsageMask, kmip.AttributeNameInitialDate,
	kmip.AttributeNameActivationDate, kmip.AttributeNameProtectStopDate, kmip.AttributeNameDeactivationDate,
	kmip.AttributeNameLink, kmip.AttributeNameSensitive, kmip.AttributeNameExtractable,
}

// set takes one attribute over. An attribute of another type than the standard says counts as absent.
func (o *object) set(a kmip.Attribute) {
	switch value := a.AttributeValue.(type) {
	case kmip.ObjectType:
		o.objectType = value
	case kmip.State:
		o.state = value
	case kmip.CryptographicAlgorithm:
		o.algorithm = value
	case int32:
		if a.AttributeName == kmip.AttributeNameCryptographicLength {
			o.length = value
		}
	case kmip.CryptographicUsageMask:
		o.usage = value
	case time.Time:
		o.setDate(a.AttributeName, value)
	case bool:
		switch a.AttributeName {
		case kmip.AttributeNameSensitive:
			o.sensitive = &value
		case kmip.AttributeNameExtractable:
			o.extractable = &value
		}
	case kmip.Link:
		switch value.LinkType {
		case kmip.LinkTypeReplacedObjectLink:
			o.replaces = value.LinkedObjectIdentifier
		case kmip.LinkTypeReplacementObjectLink:
			o.replacedBy = value.LinkedObjectIdentifier
		}
	}
}

func (o *object) setDate(name kmip.AttributeName, value time.Time) {
	switch name {
	case kmip.AttributeNameInitialDate:
		o.initialDate = value
	case kmip.AttributeNameActivationDate:
		o.activationDate = value
	case kmip.AttributeNameProtectStopDate:
		o.protectStop = value
	case kmip.AttributeNameDeactivationDate:
		o.deactivation = value
	}
}

// created is when the object came into use, as far as the server tells.
func (o object) created() time.Time {
	if o.activationDate.IsZero() {
		return o.initialDate
	}
	return o.activationDate
}

// id is 12 hexadecimal digits of a hash over the unique identifier, which a server never uses twice, and the date when the
// server made the object, which another lineage does not share. The Digest attribute is not in it: servers begin to
// compute it with an upgrade, and every id would change.
func (o object) id() string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(o.uid), uint64(o.initialDate.Unix())))
	return hex.EncodeToString(sum[:6])
}

// problem returns why the object cannot be used for what the form wants of it, or nil.
func (o object) problem(algorithm kmip.CryptographicAlgorithm, usage kmip.CryptographicUsageMask) error {
	switch {
	case o.objectType != kmip.ObjectTypeSymmetricKey:
		return fmt.Errorf("object %q is no symmetric key", o.uid)
	case o.algorithm != algorithm:
		return fmt.Errorf("the algorithm of object %q is %s, and not %s", o.uid, enum(o.algorithm), enum(algorithm))
	case o.length < 128:
		return fmt.Errorf("object %q has %d bits", o.uid, o.length)
	case o.usage&usage != usage:
		return fmt.Errorf("the usage mask of object %q lacks %s", o.uid, masks(usage&^o.usage))
	}
	return nil
}

// chain is the objects of one key, oldest first, without those that were destroyed.
type chain []object

// newest returns the index of the last active object, or of the last one if none is.
func (c chain) newest() int {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].state == kmip.StateActive {
			return i
		}
	}
	return len(c) - 1
}

// before returns the index of the last object before i that was in use, or -1.
func (c chain) before(i int) int {
	for i--; i >= 0; i-- {
		if c[i].state != kmip.StatePreActive {
			return i
		}
	}
	return -1
}

func (c chain) find(id string) (object, bool) {
	i := slices.IndexFunc(c, func(o object) bool { return o.id() == id })
	if i < 0 {
		return object{}, false
	}
	return c[i], true
}

// sort orders the objects by date. Dates have a resolution of one second: within one, what replaces another follows it.
func (c chain) sort() {
	depth := func(o object) (n int) {
		for ; n < len(c); n++ {
			i := slices.IndexFunc(c, func(other object) bool { return other.uid == o.replaces })
			if i < 0 {
				break
			}
			o = c[i]
		}
		return n
	}
	depths := make(map[string]int, len(c))
	for _, o := range c {
		depths[o.uid] = depth(o)
	}
	slices.SortFunc(c, func(a, b object) int {
		return cmp.Or(a.created().Compare(b.created()), cmp.Compare(depths[a.uid], depths[b.uid]), cmp.Compare(a.uid, b.uid))
	})
}

// chain reads the objects that are meant: those with the name, or the one with the unique identifier, and whatever they
// replaced or were replaced by.
func (k *Key) chain(ctx context.Context, op string, meant Object) (chain, error) {
	queue := []string{meant.UniqueID}
	if meant.Name != "" {
		located, err := ask[*payloads.LocateResponsePayload](ctx, k.servers, op, locate(meant.Name))
		if err != nil {
			return nil, err
		}
		queue = located.UniqueIdentifier
	}
	seen := make(map[string]bool)
	var found chain
	for len(queue) > 0 {
		uid := queue[0]
		queue = queue[1:]
		if uid == "" || seen[uid] {
			continue
		}
		if seen[uid] = true; len(seen) > maxObjects {
			return nil, &keyservice.Error{
				Kind: keyservice.Invalid, Op: op, Err: fmt.Errorf("the key has more than %d versions", maxObjects),
				Hint: "destroy the versions that nothing needs, or make another key",
			}
		}
		o, err := k.object(ctx, op, uid)
		if err != nil && keyservice.KindOf(err) == keyservice.NotFound {
			continue // it was destroyed, and the server has forgotten it
		}
		if err != nil {
			return nil, err
		}
		queue = append(queue, o.replaces, o.replacedBy)
		if o.state != kmip.StateDestroyed && o.state != kmip.StateDestroyedCompromised {
			found = append(found, o)
		}
	}
	if len(found) == 0 {
		return nil, &keyservice.Error{
			Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("the server has no key %q", meant), Hint: hintGone,
		}
	}
	found.sort()
	return found, nil
}

func locate(name string) *payloads.LocateRequestPayload {
	return &payloads.LocateRequestPayload{Attribute: []kmip.Attribute{
		{AttributeName: kmip.AttributeNameName, AttributeValue: kmip.Name{
			NameValue: name, NameType: kmip.NameTypeUninterpretedTextString,
		}},
		{AttributeName: kmip.AttributeNameObjectType, AttributeValue: kmip.ObjectTypeSymmetricKey},
	}}
}

// object reads the attributes of one object.
func (k *Key) object(ctx context.Context, op, uid string) (object, error) {
	request := &payloads.GetAttributesRequestPayload{UniqueIdentifier: uid, AttributeName: attributeNames}
	got, err := ask[*payloads.GetAttributesResponsePayload](ctx, k.servers, op, request)
	if err != nil {
		return object{}, err
	}
	if got.UniqueIdentifier != uid {
		return object{}, damagedAnswer(op, fmt.Errorf("it is about object %q instead of %q", got.UniqueIdentifier, uid))
	}
	o := object{uid: uid}
	for _, a := range got.Attribute {
		o.set(a)
	}
	if o.initialDate.IsZero() || o.state == 0 {
		return object{}, damagedAnswer(op, fmt.Errorf("object %q has no initial date or no state", uid))
	}
	return o, nil
}
