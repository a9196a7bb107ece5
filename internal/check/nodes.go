package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyid"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// placeNodes is where findings about all nodes together are.
const placeNodes = "nodes"

// node is a daemon of the cluster, on this host or on another one. Its socket names it.
type node struct {
	socket string
	client *kmsclient.Client
	probe  *probe   // what it seals now; nil if it seals nothing
	id     keyid.ID // of the probe; of policy 0 if this configuration does not give it
	closed []int    // the policies, from 0, that it does not open
}

// nodes calls the daemons of several nodes, and finds out whether each opens what the listed policies seal and what the
// others seal now: what one node writes is read on all of them.
func (r *report) nodes(ctx context.Context, keys *keyring.Keyring, probes []*probe) {
	var known *keyid.Known
	if keys != nil {
		bounded, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		known = keyid.Ask(bounded, keys)
	}
	var (
		nodes  []*node
		silent []string
	)
	for _, socket := range r.Sockets {
		if socket == r.config.Socket.Path {
			_ = r.local(socket) // that it is not there is said by calling it
		}
		client, _ := r.call(ctx, socket)
		if client == nil {
			silent = append(silent, socket)
			continue
		}
		defer client.Close()
		n := &node{socket: socket, client: client}
		r.announces(ctx, n, known)
		nodes = append(nodes, n)
	}
	for i, p := range probes {
		r.everywhere(ctx, i, p, nodes)
	}
	r.crosswise(ctx, nodes)
	if silent != nil {
		r.add("nodes-silent", finding.Warning, placeNodes, fmt.Sprintf("no policy may be put first while %s does not answer", strings.Join(silent, ", ")),
			"start the daemon there, or forward its socket again, and check again")
		return
	}
	r.compare(nodes)
}

// announces has a node seal, and says what that stands for.
func (r *report) announces(ctx context.Context, n *node, known *keyid.Known) {
	seed := make([]byte, seedSize)
	rand.Read(seed)
	sealed, err := n.client.Encrypt(ctx, probeUID(), seed)
	if err != nil {
		return // the proof has failed as well
	}
	n.probe = &probe{seed, sealed}
	if known == nil {
		return
	}
	id, found := known.Find(sealed.KeyID)
	switch {
	case !found && known.Silent != nil: // a key does not answer, which was said
	case !found || id.Former:
		r.add("daemon-key-id", finding.Error, n.socket, fmt.Sprintf("announces %s, which this configuration does not give", sealed.KeyID),
			"compare the configurations of all nodes, and the versions of their keys: list here what is sealed there")
	default:
		n.id = id
		if !r.without(n.socket, id) {
			r.add("daemon-key-id", finding.OK, n.socket, fmt.Sprintf("announces %s, of %s", sealed.KeyID, policyPlace(id.Policy-1)), "")
		}
	}
}

// everywhere finds out whether every node opens what a policy seals, and so whether it may be put first.
func (r *report) everywhere(ctx context.Context, i int, p *probe, nodes []*node) {
	where := policyPlace(i)
	if p == nil {
		r.add("policy-untried", finding.Warning, where, "must not be put first yet: nothing could be sealed under it here for the nodes to open",
			"mend its keys, which have findings of their own; if it only opens what is old, leave it behind the others")
		return
	}
	var under []string
	for _, n := range nodes {
		if n.id.Policy == i+1 {
			under = append(under, n.socket)
		}
	}
	opened := len(nodes) == len(r.Sockets)
	for _, n := range nodes {
		err := n.opens(ctx, p)
		if err == nil {
			continue
		}
		opened, n.closed = false, append(n.closed, i)
		if under == nil {
			r.add("policy-not-everywhere", finding.Error, where, fmt.Sprintf("must not be put first yet: %s does not open it: %v", n.socket, err),
				"list it on "+n.socket+" as it is listed here, with keys that answer there, and check again before any node puts it first")
			continue
		}
		r.add("policy-not-everywhere", finding.Error, where, fmt.Sprintf("%s does not open it, and %s seals under it: %v",
			n.socket, strings.Join(under, ", "), err), r.unread(n.socket, strings.Join(under, ", ")))
	}
	switch {
	case !opened:
	case len(under) == len(nodes):
		r.add("policy-everywhere", finding.OK, where, fmt.Sprintf("each of the %d nodes opens it and seals under it", len(nodes)), "")
	default:
		r.add("policy-everywhere", finding.OK, where, fmt.Sprintf("each of the %d nodes opens it: it may be put first", len(nodes)), "")
	}
}

// crosswise has every node open what the others seal now.
func (r *report) crosswise(ctx context.Context, nodes []*node) {
	all := len(nodes) == len(r.Sockets)
	for _, to := range nodes {
		for _, from := range nodes {
			if to == from {
				continue
			}
			if from.probe == nil || slices.Contains(to.closed, from.id.Policy-1) { // said already
				all = false
				continue
			}
			if err := to.opens(ctx, from.probe); err != nil {
				all = false
				r.add("node-closed", finding.Error, to.socket, fmt.Sprintf("does not open what %s seals: %v", from.socket, err),
					r.unread(to.socket, from.socket))
			}
		}
	}
	if all {
		r.add("nodes-open", finding.OK, placeNodes, fmt.Sprintf("each of the %d opens what the others seal", len(nodes)), "")
	}
}

// unread says what to do when one node does not open what others seal.
func (r *report) unread(node, others string) string {
	return fmt.Sprintf("list on %s the policy that %s seals under, with keys that answer there, or let %s seal under the policy before again; "+
		"nothing is lost: all of it is read on %s as soon as the policy is listed there", node, others, others, node)
}

// compare says how far a change is, by what the nodes announce.
func (r *report) compare(nodes []*node) {
	var left, under []string
	same, first := true, nodes[0]
	for _, n := range nodes {
		if n.id.Policy == 0 { // not known, and said already
			return
		}
		same = same && n.id.Policy == first.id.Policy
		under = append(under, fmt.Sprintf("%s under %s", n.socket, policyPlace(n.id.Policy-1)))
		if n.id.Policy != 1 {
			left = append(left, n.socket)
		}
	}
	switch {
	case !same:
		r.add("nodes-differ", finding.Warning, placeNodes, "seal under different policies: "+strings.Join(under, ", "),
			"once every node opens policy 1, put it first on "+strings.Join(left, ", ")+" too")
	case left != nil:
		r.add("nodes-before", finding.Info, placeNodes, fmt.Sprintf("all seal under %s, and this configuration puts policy 1 first: "+
			"that change has not been made", policyPlace(first.id.Policy-1)), "")
	case r.versionsDiffer(nodes):
	default:
		r.add("nodes-agree", finding.OK, placeNodes, "all announce "+first.id.KeyID, "")
	}
}

// versionsDiffer says which keys the nodes, of one policy, seal with in different versions.
func (r *report) versionsDiffer(nodes []*node) (differ bool) {
	for slot, part := range nodes[0].id.Keys {
		same, with := true, []string(nil)
		for _, n := range nodes {
			version := n.id.Keys[slot].Version
			same = same && version == part.Version
			if version == "" {
				version = "none"
			}
			with = append(with, fmt.Sprintf("%s with %s", n.socket, version))
		}
		if !same {
			differ = true
			r.add("nodes-versions", finding.Warning, placeNodes, fmt.Sprintf("seal with different versions of key %s: %s", part.Key, strings.Join(with, ", ")),
				fmt.Sprintf("if it is still so after %s: copy a keystore to all nodes, set their clocks, and see the daemons' logs",
					r.config.Status.ActivationDelay+2*r.config.Status.ProbeInterval))
		}
	}
	return differ
}

// opens returns nil if the node opens p.
func (n *node) opens(ctx context.Context, p *probe) error {
	got, err := n.client.Decrypt(ctx, probeUID(), p.sealed)
	if err == nil && !bytes.Equal(got, p.seed) {
		return errors.New("it opened to something else than was sealed")
	}
	return err
}

// probeUID names a call in the daemon's log.
func probeUID() string { return "trousseau-check-" + rand.Text() }
